"""Rounds and figures: who is measured when, who fails, what the medians are."""

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("benchmarks pin processes to cores", allow_module_level=True)

from benchmarks.figures import rate_figures
from benchmarks.process import ChildFailed, choose_cores
from benchmarks.rounds import Server, play
from benchmarks.side import FoundSide, Side
from benchmarks.window import Window


def found(name: str, program: str) -> FoundSide:
    side = Side(name, name, lambda: ([], ""))
    return FoundSide(side, [sys.executable, "-c", program], "")


def server(name: str, port: int) -> FoundSide:
    return found(name, f"import time; print({port}, flush=True); time.sleep(60)")


def window(events: int, load_cpu: float = 0.5) -> Window:
    return Window(events, seconds=1.0, server_cpu=1.0, load_cpu=load_cpu, other_cpu=0.0)


def test_each_round_begins_with_another_side() -> None:
    order: list[int] = []
    sides = [server("a", 1), server("b", 2)]

    def measure(server: Server) -> dict[str, int]:
        order.append(server.port)
        return {"case": server.port}

    played = play(sides, 2, choose_cores(), measure)

    assert order == [1, 2, 2, 1]
    assert played.results == {"a": {"case": [1, 1]}, "b": {"case": [2, 2]}}


def test_side_that_fails_is_named_and_the_others_go_on() -> None:
    sides = [found("broken", "raise SystemExit('no luck')"), server("good", 1), server("bad", 2)]

    def measure(server: Server) -> dict[str, int]:
        if server.port == 2:
            raise ChildFailed("no echo")
        return {"case": server.port}

    played = play(sides, 2, choose_cores(), measure)

    assert played.results == {"good": {"case": [1, 1]}}
    assert {"broken", "bad"} == set(played.failures)
    assert "no luck" in played.failures["broken"]


def test_figures_are_medians_and_ratios_to_websockets() -> None:
    results = {
        "websockets": {"case": [window(10), window(90), window(20)]},
        "hubbub": {"case": [window(60), window(50), window(10)]},
    }

    figures = rate_figures(results, "case")

    assert (
        figures["hubbub"].per_cpu_second,
        figures["hubbub"].ratio,
        figures["hubbub"].lowest,
        figures["hubbub"].highest,
    ) == (50, 2.5, 10, 60)


@pytest.mark.parametrize(("load_cpu", "expected"), [(0.9, False), (0.96, True)])
def test_figure_is_a_lower_bound_with_the_load_at_its_limit(
    load_cpu: float, expected: bool
) -> None:
    figures = rate_figures({"hubbub": {"case": [window(10, load_cpu)]}}, "case")

    assert expected is figures["hubbub"].is_lower_bound
    assert figures["hubbub"].ratio is None
