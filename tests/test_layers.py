"""The arrows between the packages: who may import whom (design decision, ADR 0001)."""

import ast
from pathlib import Path

import hubbub

ROOT = Path(hubbub.__file__).parent

# Besides itself, `errors` and `model`. `cli` may import everything.
MAY_IMPORT = {
    "auth": set[str](),
    "brokers": set[str](),
    "clock": set[str](),
    "errors": set[str](),
    "http": {"hub", "auth"},
    "hub": {"server", "protocol", "brokers", "auth"},
    "model": set[str](),
    "protocol": set[str](),
    "server": set[str](),
    "testing": {"brokers", "hub", "protocol", "server"},
    "web": set[str](),
    "workers": {"brokers"},
}
EVERYBODY = {"clock", "errors", "model"}


def imports(path: Path) -> set[str]:
    """The packages of hubbub that a module imports; for `from hubbub import x`, the root itself."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            modules = [node.module or ""]
        else:
            continue
        for module in modules:
            root, _, rest = module.partition(".")
            if root == "hubbub":
                names.add(rest.partition(".")[0] or "hubbub")
    return names


def test_layers_import_downwards_only() -> None:
    for layer, allowed in MAY_IMPORT.items():
        module = ROOT / f"{layer}.py"
        for path in [module] if module.exists() else (ROOT / layer).rglob("*.py"):
            assert imports(path) <= allowed | EVERYBODY | {layer}, path


def test_every_package_has_its_arrows() -> None:
    packages = {
        path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"
    }

    assert packages - {"cli"} <= set(MAY_IMPORT)
