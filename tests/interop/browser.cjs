// A browser for all tests of a process: its address is the first line, the end of stdin is its end.
// Arguments: where Playwright is installed, and the options of `launchServer`.

const [installed, options] = process.argv.slice(2);
const { chromium } = require(installed);

chromium.launchServer(JSON.parse(options)).then((server) => {
  process.stdin.resume().on("end", () => server.close().then(() => process.exit()));
  console.log(server.wsEndpoint());
});
