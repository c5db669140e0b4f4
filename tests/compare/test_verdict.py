"""What is said of a result: nothing that the rounds do not show, and with its limits."""

from __future__ import annotations

import copy

import pytest

from echoframe.compare.histogram import Histogram
from echoframe.compare.result import Cell, Result, Round, Task
from echoframe.compare.verdict import changes, recommend, verdict

from .samples import (
    CHURN,
    DRAIN,
    ECHO,
    IDLE,
    RATED,
    WAIT,
    WORK,
    crowd,
    five,
    measured,
    result,
    rounds,
)


def about(task: str, made: Result) -> str:
    """The sentences about a workload, as one text."""
    return " ".join(one for one in verdict(made) if one.startswith(f"{task} with"))


# ------------------------------------------------------------------ rates


def test_who_is_fastest_and_by_how_much() -> None:
    made = result(
        Cell("thread", "echo", 500, five(10_000)),
        Cell("pool", "echo", 500, five(19_000)),
        Cell("loop", "echo", 500, five(38_000)),
    )
    assert about("echo", made) == (
        "echo with 500 connections: loop is fastest, 38,000 messages a second; "
        "2.0 times pool and 3.8 times thread."
    )


def test_servers_that_do_not_differ_are_said_not_to() -> None:
    made = result(
        Cell("thread", "echo", 50, rounds(10_000, 11_000, 10_500)),
        Cell("pool", "echo", 50, rounds(10_100, 10_900, 10_600)),
    )
    said = about("echo", made)
    assert "no difference between pool and thread" in said
    assert "times" not in said


def test_rounds_that_overlap_carry_no_ratio() -> None:
    # The medians lie far apart, and the rounds do not.
    made = result(
        Cell("thread", "echo", 50, rounds(5_000, 10_000, 30_000)),
        Cell("pool", "echo", 50, rounds(8_000, 20_000, 21_000)),
    )
    assert "pool and thread cannot be told apart" in about("echo", made)


def test_those_equal_to_the_best_are_named_with_it() -> None:
    made = result(
        Cell("thread", "echo", 50, five(10_000)),
        Cell("aio", "echo", 50, five(20_100)),
        Cell("loop", "echo", 50, five(20_000)),
    )
    said = about("echo", made)
    assert (
        "aio and loop are in front, 20,100 messages a second (no difference between them)" in said
    )
    assert "2.0 times thread" in said
    assert "fastest" not in said


def test_one_round_tells_nothing_about_differences() -> None:
    made = result(
        Cell("thread", "echo", 50, rounds(10_000)), Cell("loop", "echo", 50, rounds(90_000))
    )
    said = about("echo", made)
    assert "one round tells nothing" in said
    assert "fastest" not in said


def test_few_rounds_are_an_indication() -> None:
    few = result(Cell("loop", "echo", 50, rounds(10, 10, 10)))
    assert any("an indication, from 3 rounds" in one for one in verdict(few))
    enough = result(Cell("loop", "echo", 50, five(10)))
    assert not any("indication" in one for one in verdict(enough))


def test_a_bound_best_is_at_least_so_much_better() -> None:
    made = result(
        Cell("loop", "echo", 50, five(20_000, bound=True)), Cell("fork", "echo", 50, five(10_000))
    )
    assert "at least 20,000 messages a second; at least 2.0 times fork" in about("echo", made)


def test_nothing_is_said_to_be_behind_if_the_generator_held_it_back() -> None:
    made = result(
        Cell("loop", "echo", 50, five(20_000)),
        Cell("aio", "echo", 50, five(10_000, bound=True)),
        Cell("fork", "echo", 50, five(5_000)),
    )
    said = about("echo", made)
    assert "leads where that can be told" in said
    assert "4.0 times fork" in said
    assert "times aio" not in said
    assert "at its end with aio" in said


def test_two_that_are_both_held_back_cannot_be_told_apart() -> None:
    made = result(
        Cell("loop", "echo", 50, five(20_000, bound=True)),
        Cell("aio", "echo", 50, five(20_000, bound=True)),
    )
    said = about("echo", made)
    assert "cannot be told apart" in said
    assert "no difference" not in said


def test_who_left_clients_waiting_is_named_and_wins_nothing() -> None:
    made = result(
        Cell("single", "echo", 50, five(90_000, unserved=49)),
        Cell("thread", "echo", 50, five(10_000)),
        Cell("loop", "echo", 50, five(20_000)),
    )
    assert "loop is fastest" in about("echo", made)
    assert any(
        "single served 1 of 50; the others waited in the backlog" in one for one in verdict(made)
    )


def test_connections_with_a_message_each_are_counted_as_such() -> None:
    made = result(
        Cell("fork", "churn", 50, five(1_000)),
        Cell("loop", "churn", 50, five(4_000)),
        tasks=[CHURN],
    )
    assert "4,000 connections a second; 4.0 times fork" in about("churn", made)


def test_an_axis_is_told_at_its_end_and_who_leads_before() -> None:
    made = result(
        Cell("single", "echo", 1, five(30_000)),
        Cell("thread", "echo", 1, five(10_000)),
        Cell("single", "echo", 100, five(29_000, unserved=99)),
        Cell("thread", "echo", 100, five(7_000)),
        Cell("loop", "echo", 100, five(21_000)),
    )
    text = " ".join(verdict(made))
    assert "echo with 100 connections: loop is fastest" in text
    assert "echo with fewer connections: with 1, single is in front." in text
    assert "thread loses 30 % from 1 to 100" in text


def test_where_most_are_level_those_behind_are_named() -> None:
    cells = [Cell(name, "echo", 1, five(10_000)) for name in ("pool", "fork", "loop")]
    cells += [Cell("aio", "echo", 1, five(5_000)), Cell("aio", "echo", 10, five(5_000))]
    said = " ".join(verdict(result(*cells)))
    assert "echo with fewer connections: with 1, all but aio are level." in said


def test_whose_ratio_is_the_same_share_it() -> None:
    made = result(
        Cell("thread", "echo", 50, five(10_000)),
        Cell("pool", "echo", 50, five(10_010)),
        Cell("loop", "echo", 50, five(20_000)),
    )
    assert "2.0 times pool and thread." in about("echo", made)


def test_who_leads_with_several_numbers_is_said_once() -> None:
    cells = [
        Cell(name, "echo", count, five(rate))
        for name, rate in (("loop", 20_000), ("fork", 10_000))
        for count in (1, 10, 100)
    ]
    text = " ".join(verdict(result(*cells)))
    assert "echo with fewer connections: with 1 and 10, loop is in front." in text


def test_one_server_alone_has_its_figure_told() -> None:
    made = result(Cell("loop", "echo", 50, five(20_000)))
    assert about("echo", made) == ("echo with 50 connections: loop: 20,000 messages a second.")


def test_one_server_that_was_held_back_does_at_least_so_much() -> None:
    made = result(Cell("loop", "echo", 50, five(118_000, bound=True)))
    assert about("echo", made).endswith("loop: at least 118,000 messages a second.")


def test_unfairness_is_told() -> None:
    made = result(Cell("loop", "echo", 50, five(10, fairness=0.3)))
    assert any("unevenly (fairness 0.30" in one for one in verdict(made))


# ------------------------------------------------------------------ what went wrong


def test_what_went_wrong_comes_first() -> None:
    made = result(
        Cell("loop", "echo", 50, five(20_000)),
        Cell("pool", "echo", 50, five(40_000, errors={"wrong": 1})),
        Cell("fork", "echo", 50, five(10_000), failure="the server has died: exit code 1"),
        Cell("thread", "echo", 50, five(15_000, errors={"reset": 2})),
        complete=False,
    )
    said = verdict(made)
    assert "not run to its end" in said[0]
    assert said[1].startswith("pool gave 5 wrong replies")
    assert said[2] == "fork in echo (50): the server has died: exit code 1."
    assert "thread met errors: 10 reset, of 75,010 messages" in said[3]
    # Wrong replies win nothing, however fast they are.
    assert "loop is fastest" in about("echo", made)


def test_the_same_refusal_is_told_once() -> None:
    why = "'f' is asynchronous, and the model {} waits for nothing; choose the model 'aio'"
    names = {"single": "'single'", "loop": "'loop'", "prefork": "'pool' (inner of 'prefork')"}
    cells = [
        Cell(name, task, 20, failure=why.format(model))
        for task in ("echo", "churn")
        for name, model in names.items()
    ]
    cells += [Cell("aio", task, 20, five(10)) for task in ("echo", "churn")]
    said = [one for one in verdict(result(*cells, tasks=[ECHO, CHURN])) if "asynchronous" in one]
    assert said == [
        "single, loop and prefork: 'f' is asynchronous, and the model waits for "
        "nothing; choose the model 'aio'."
    ]


def test_what_there_was_no_time_for_is_told_once() -> None:
    late = "not measured: the time was up"
    cells = [
        Cell(name, "echo", count, [] if late_ else five(10), late if late_ else "")
        for count in (1, 10, 100)
        for name, late_ in (("loop", count > 1), ("aio", count > 1))
    ]
    assert verdict(result(*cells))[0] == (f"all in echo (10 and 100): {late}.")


def test_who_had_a_wrong_reply_had_one() -> None:
    made = result(
        Cell("loop", "echo", 50, [Round(1.0, 0, errors={"wrong": 250}, unserved=50)]),
        Cell("aio", "echo", 50, [Round(1.0, 0, errors={"ended": 654}, unserved=50)]),
        Cell("single", "echo", 50, [Round(1.0, 0, errors={"ended": 13}, unserved=50)]),
        Cell("fork", "echo", 50, [Round(1.0, 0, unserved=50)]),
    )
    text = " ".join(verdict(made))
    assert "loop gave 250 wrong replies" in text
    assert "every message failed on aio and single (ended)" in text
    assert "nobody had a reply in a whole round on fork." in text
    for never in ("served 0", "backlog", "whom it served"):
        assert never not in text


def test_a_rate_of_many_errors_is_not_compared() -> None:
    made = result(
        Cell("loop", "echo", 50, five(20_000)),
        Cell("pool", "echo", 50, five(40_000, errors={"refused": 5_000})),
        Cell("fork", "echo", 50, five(10_000)),
    )
    assert "loop is fastest" in about("echo", made)


def test_nothing_measured_is_no_verdict() -> None:
    assert verdict(result(Cell("loop", "echo", 50, failure="it has died"))) == [
        "loop in echo (50): it has died."
    ]
    assert verdict(Result("compare", "", "", "")) == []


# ------------------------------------------------------------------ other workloads


def test_a_staircase_and_a_crowd_that_is_served_together() -> None:
    made = result(
        crowd("single", 1), crowd("loop", 1), crowd("thread", 20), crowd("pool", 4), tasks=[WAIT]
    )
    text = about("wait", made)
    assert "single and loop serve one by one, a staircase" in text
    assert "after 401 ms, which is 20 times 20" in text
    assert "thread serves all together: everybody has a reply after 20.2 ms" in text
    assert "20 times sooner than on single and loop" in text
    assert "pool up to 4 (all by" in text


def test_a_crowd_whose_serving_takes_no_time_is_compared_by_its_end() -> None:
    quick, slow = crowd("loop", 20), crowd("fork", 20)
    for cell, seconds in ((quick, 0.01), (slow, 0.05)):
        for one in cell.rounds:
            one.seconds = seconds
        for at, person in enumerate(cell.timeline):
            person.began = seconds * at / 20
            person.ended = person.began + 1e-6
    said = about("wait", result(quick, slow, tasks=[WAIT]))
    assert "loop is the first to have served everybody" in said
    assert "5.0 times as long on fork" in said
    assert "staircase" not in said


def test_where_nobody_waits_there_is_no_staircase() -> None:
    # One after the other, each in 0.4 ms: that is what coming takes.
    made = result(crowd("fork", 1, each=4e-4), crowd("pool", 1, each=4e-4), tasks=[WAIT])
    said = about("wait", made)
    assert "staircase" not in said
    assert "one by one" not in said
    assert "no difference between fork and pool: the last has its reply after" in said


def test_staircases_of_unlike_steps_are_not_one() -> None:
    made = result(crowd("single", 1, each=0.02), crowd("loop", 1, each=0.04), tasks=[WAIT])
    assert "after 401 ms to 802 ms, which is 20 times 20.1 ms to 40.1 ms" in about("wait", made)


def test_a_crowd_in_one_round_or_in_uneven_ones_is_not_called_equal() -> None:
    cells = [crowd("loop", 20, each=1e-4), crowd("fork", 20, each=1e-4)]
    for cell, seconds in zip(cells, (0.03, 0.52), strict=True):
        cell.rounds = [Round(seconds, 20)]
    assert about("wait", result(*cells, tasks=[WAIT])) == (
        "wait with 20 clients: one round tells nothing about differences."
    )
    cells[0].rounds = [Round(seconds, 20) for seconds in (0.03, 0.04, 0.3)]
    cells[1].rounds = [Round(seconds, 20) for seconds in (0.2, 0.25, 0.26)]
    said = about("wait", result(*cells, tasks=[WAIT]))
    assert "loop and fork cannot be told apart" in said


def test_work_tells_who_uses_several_cores() -> None:
    made = result(
        Cell("fork", "work", 4, rounds(*[380] * 5, cpu=1.9)),
        Cell("thread", "work", 4, rounds(*[190] * 5, cpu=0.98)),
        tasks=[WORK],
    )
    text = about("work", made)
    assert "fork is fastest, 380 messages a second; 2.0 times thread" in text
    assert "fork (1.9) computes on more than one core; thread on one at a time" in text


def test_idle_connections_are_sorted_by_memory() -> None:
    cells = [
        Cell(name, "idle", 100, rounds(1, memory=10_000_000 + 100 * each, memory_before=10_000_000))
        for name, each in (("fork", 512_000), ("thread", 20_480), ("loop", 20_500))
    ]
    said = about("idle", result(*cells, tasks=[IDLE]))
    assert "a connection takes 20.0 KiB on thread and loop and 500 KiB on fork" in said


def test_asked_by_the_clock_the_tail_is_compared() -> None:
    made = result(
        Cell("loop", "rated", 50, five(10_000, latency=1e-3)),
        Cell("thread", "rated", 50, five(10_000, latency=3e-3)),
        Cell("single", "rated", 50, five(4_000, latency=1e-3)),
        tasks=[RATED],
    )
    text = about("rated", made)
    assert "the planned 10,000 messages a second were not reached with single (4,000)" in text
    assert "loop is best, p99 of 1.97 ms; 3.0 times thread" in text
    assert any("an open loop" in one for one in verdict(made))


def test_who_alone_kept_up_with_the_clock() -> None:
    made = result(
        Cell("loop", "rated", 50, five(10_000, latency=1e-3)),
        Cell("single", "rated", 50, five(4_000, bound=True)),
        tasks=[RATED],
    )
    text = about("rated", made)
    assert "loop kept up with the plan, with a p99 of 1.97 ms" in text
    assert "single (4,000, the load generator was late)" in text


def test_what_a_closed_loop_would_have_hidden_is_told() -> None:
    made = result(
        Cell("loop", "rated", 50, five(10_000, latency=0.1)),
        Cell("fork", "rated", 50, five(10_000, latency=0.1)),
        tasks=[RATED],
    )
    for one in made.cells[0].rounds:
        one.from_send = Histogram.of([0.001] * 1000)
    text = about("rated", made)
    assert "would have hidden the stalls of loop (p99 198 ms, not 1.00 ms)" in text


def test_latency_that_the_generator_added_to_is_at_most_so_much() -> None:
    made = result(
        Cell("loop", "rated", 50, five(10_000, latency=1e-3, bound=True)),
        Cell("fork", "rated", 50, five(10_000, latency=3e-3)),
        Cell("aio", "rated", 50, five(10_000, latency=9e-3, bound=True)),
        tasks=[RATED],
    )
    text = about("rated", made)
    assert "p99 of at most 1.97 ms; at least 3.0 times fork" in text
    assert "times aio" not in text


def test_equal_memory_is_said_to_be() -> None:
    cells = [
        Cell(name, "idle", 100, rounds(1, memory=10_000_000 + 100 * each, memory_before=10_000_000))
        for name, each in (("thread", 20_480), ("loop", 20_500))
    ]
    assert "about 20.0 KiB of memory a connection on all" in (
        about("idle", result(*cells, tasks=[IDLE]))
    )


def test_a_crowd_alone_has_its_figure_told() -> None:
    text = about("wait", result(crowd("loop", 20, each=1e-4), tasks=[WAIT]))
    assert "loop: the last has its reply after" in text


def test_a_rate_with_few_messages_says_so() -> None:
    few = [Round(1.0, 10_000, Histogram.of([0.001])) for _ in range(2)]
    cells = [Cell(name, "rated", 50, list(few)) for name in ("loop", "thread")]
    text = about("rated", result(*cells, tasks=[RATED]))
    assert "loop and thread kept up with the plan; the messages are too few" in text


def test_a_foreign_server_in_a_crowd_is_timed_and_not_guessed_about() -> None:
    foreign = crowd("other", 20)
    for person in foreign.timeline:
        person.began = person.ended = None
    text = about("wait", result(crowd("single", 1), foreign, tasks=[WAIT]))
    assert "on other the last has its reply after 20.2 ms" in text
    alone = copy.deepcopy(foreign)
    alone.subject = "another"
    text = about("wait", result(foreign, alone, tasks=[WAIT]))
    assert "no difference between other and another" in text


def test_a_closed_loop_says_what_it_hides() -> None:
    made = result(Cell("loop", "echo", 50, five(10)))
    assert any("a closed loop" in one and "--rate" in one for one in verdict(made))


def test_beside_others_the_tail_is_what_counts() -> None:
    task = Task("mixed", "short questions", "work", "talk", beside="2 who compute")
    made = result(
        Cell("loop", "mixed", 20, five(10_000, latency=9e-3)),
        Cell("fork", "mixed", 20, five(10_000, latency=1e-3)),
        tasks=[task],
    )
    assert "fork is best, p99 of 1.97 ms; 9.0 times loop" in about("mixed", made)


def test_stopping_is_told_in_time_and_losses() -> None:
    made = result(
        Cell("loop", "drain", 50, rounds(10), stop=0.01),
        Cell("fork", "drain", 50, rounds(1000, errors={"lost": 3}), stop=5.0),
        tasks=[DRAIN],
    )
    assert (
        "loop was gone after 10.0 ms, and the last, fork, after 5.00 s; messages under way were "
        "lost: fork 3"
    ) in about("drain", made)


# ------------------------------------------------------------------ limits


def test_the_machine_is_part_of_the_verdict() -> None:
    made = result(Cell("loop", "echo", 50, five(10, others=0.25)))
    made.environment["load"] = 1.7
    text = " ".join(verdict(made))
    assert "shared 2 cores, and other programs took up to 25 % of them" in text
    assert "load 1.7" in text
    # The load of a minute ago: nobody was in the way.
    quiet = copy.deepcopy(made)
    for one in quiet.cells[0].rounds:
        one.others = 0.01
    assert "load 1.7" not in " ".join(verdict(quiet))
    quiet.kind = "bench"
    assert "The load had 2 cores, which other programs" in " ".join(verdict(quiet))
    made.environment["cores_usable"] = 1
    assert any("shared 1 core, so no model could" in one for one in verdict(made))


def test_pinned_alone_or_of_unknown_size() -> None:
    made = result(Cell("loop", "echo", 50, five(10, others=0.01)))
    assert any("2 cores, which other programs left alone" in one for one in verdict(made))
    made.environment["pinned"] = True
    assert any("pinned to their own" in one for one in verdict(made))
    made.environment.clear()
    made.cells[0].rounds[0].others = 0.5
    assert "Other programs took up to 50 % of the cores meanwhile." in verdict(made)


# ------------------------------------------------------------------ old and new


def test_changes_are_told_and_what_is_the_same() -> None:
    old = result(
        Cell("loop", "echo", 50, five(10_000)),
        Cell("aio", "echo", 50, five(10_000)),
        Cell("fork", "echo", 50, five(10_000)),
    )
    new = copy.deepcopy(old)
    new.cells[0].rounds = five(15_000)
    new.cells[2] = Cell("fork", "echo", 50, failure="it has died")
    assert changes(new, old) == [
        "echo with 50 connections, loop: 15,000 messages a second instead of 10,000 (50 % more).",
        "echo with 50 connections, fork: nothing to compare; now: it has died.",
        "echo with 50 connections, aio: no difference.",
    ]


def test_changes_of_a_crowd_and_of_single_rounds() -> None:
    old, new = result(crowd("pool", 20), tasks=[WAIT]), result(crowd("pool", 4), tasks=[WAIT])
    assert changes(new, old) == [
        "wait with 20 connections, pool: the time until the last of a crowd was served is 100 ms "
        "instead of 20.2 ms (5.0 times as much)."
    ]
    old = result(Cell("loop", "echo", 50, rounds(10)))
    new = result(Cell("loop", "echo", 50, rounds(90)))
    assert "cannot be told (one round" in changes(new, old)[0]


def test_changes_of_a_held_back_server_are_not_guessed() -> None:
    old = result(Cell("loop", "echo", 50, five(20_000)))
    new = result(Cell("loop", "echo", 50, five(10_000, bound=True)))
    assert "cannot be told" in changes(new, old)[0]


def test_uneven_rounds_are_no_proof_that_nothing_changed() -> None:
    old = result(Cell("loop", "echo", 50, rounds(5_000, 10_000, 30_000)))
    new = result(Cell("loop", "echo", 50, rounds(8_000, 20_000, 21_000)))
    assert "cannot be told (one round, uneven rounds" in changes(new, old)[0]


def test_another_planned_rate_is_the_reason() -> None:
    old = result(Cell("loop", "rated", 50, five(10_000)), tasks=[RATED])
    closed = Task("rated", "asked", "echo", "talk")
    new = result(Cell("loop", "rated", 50, five(20_000, bound=True)), tasks=[closed])
    assert changes(new, old) == [
        "rated with 50 connections, loop: cannot be compared, since the baseline had another "
        "rate planned (10,000 messages a second; now none)."
    ]


def test_another_machine_and_nothing_in_common_are_told() -> None:
    old = result(Cell("loop", "echo", 50, five(1)))
    new = result(Cell("fork", "echo", 50, five(1)))
    new.environment["python"] = "3.13.1"
    said = changes(new, old)
    assert "python 3.11.7 → 3.13.1" in said[0]
    assert said[1].startswith("Nothing here was measured in the baseline")


def test_more_unserved_and_errors_are_changes() -> None:
    old = result(Cell("loop", "echo", 50, five(10)))
    new = result(Cell("loop", "echo", 50, five(10, unserved=3, errors={"reset": 1})))
    assert "3 never served instead of 0; 5 errors instead of 0" in changes(new, old)[0]


# ------------------------------------------------------------------ one's own handler


def advice(
    wait: float = 0.0, cpu: float = 0.0, asynchronous: bool = False, keeps: bool = False
) -> str:
    made = result()
    made.handler = {
        "name": "app:answer",
        "wait": wait,
        "cpu": cpu,
        "asynchronous": asynchronous,
        "keeps_worker": keeps,
    }
    return " ".join(recommend(made))


def test_a_handler_that_waits_is_for_threads() -> None:
    text = advice(wait=0.05, cpu=0.0003)
    assert "Your handler app:answer waits 50 ms and computes 300 µs" in text
    # 32 / 50.3 ms; 1,000 times 50.3 ms.
    assert "A pool with 32 threads serves up to 640 messages a second" in text
    assert "51 threads for 1,000" in text
    # 1 / 0.3 ms is where one process ends.
    assert "one process computes up to 3,300 messages a second; prefork" in text
    assert "loop and aio stall while it blocks: up to 20 messages a second" in text
    assert "written as async def it would fit aio" in text
    assert "single loses everything beyond one client" in text


def test_what_the_lock_allows_limits_the_pool() -> None:
    text = advice(wait=0.02, cpu=0.01)
    assert "serves up to 100 messages a second" in text
    assert "3 threads for 100" in text


def test_a_handler_that_computes_is_for_processes() -> None:
    text = advice(cpu=0.005)
    assert "prefork with 2 workers does up to 400 messages a second on 2 cores" in text
    assert "up to 200 messages a second, however many threads" in text
    assert "fork does nearly as much" in text
    assert "fork pays as well if conversations are long" in advice(cpu=0.002)


def test_with_one_core_nothing_computes_side_by_side() -> None:
    made = result()
    made.handler = {"wait": 0, "cpu": 0.01, "asynchronous": False, "keeps_worker": False}
    made.environment["cores_usable"] = 1
    assert "there is one core: up to 100 messages a second is the end" in recommend(made)[1]


def test_a_quick_handler_is_for_one_thread() -> None:
    assert "loop or aio (up to 50,000 messages a second" in advice(cpu=0.00002)


def own(wait: float, cpu: float, *cells: Cell, asynchronous: bool = False) -> str:
    """What is advised for a handler that was measured, too."""
    task = Task("echo", "asks again and again", "app:answer", "talk")
    made = result(*cells, tasks=[task])
    made.handler = {"name": "app:answer", "wait": wait, "cpu": cpu}
    made.handler |= {"asynchronous": asynchronous, "keeps_worker": False}
    return " ".join(recommend(made))


def test_a_handler_that_never_replies_is_told_why() -> None:
    task = Task("echo", "asks again and again", "app:silent", "talk")
    made = result(Cell("loop", "echo", 50, [Round(1.0, 0, unserved=50)]), tasks=[task])
    made.handler = {"name": "app:silent"}
    # And there is nothing to be said of the limits of figures.
    assert verdict(made) == [
        "echo with 50 connections: nobody had a reply in a whole round on loop (a handler that "
        "returns None sends none)."
    ]


def test_where_most_failed_nothing_is_advised() -> None:
    text = own(0.0, 1e-4, Cell("loop", "echo", 50, [Round(1.0, 10, errors={"ended": 200})]))
    assert text.startswith("Nothing is advised: most messages")


def test_what_was_measured_is_not_advised_against() -> None:
    # 325 µs with one client alone, and 75 µs with many.
    text = own(
        0.005,
        325e-6,
        Cell("pool", "echo", 50, five(6_020, cpu=6_020 * 75e-6)),
        Cell("thread", "echo", 50, five(8_990, cpu=8_990 * 80e-6)),
        Cell("loop", "echo", 50, five(250)),
    )
    assert "waits 5 ms and computes 75" in text
    assert "A pool with 32 threads serves up to 6,300" in text
    assert "one process computes up to 13,000" in text
    assert "stall while it blocks: up to 250 messages a second" in text


def test_without_psutil_the_rates_tell_what_a_message_costs() -> None:
    text = own(0.0, 1 / 21_000, Cell("aio", "echo", 50, five(99_900, bound=True)))
    assert "computes 10.0 µs" in text or "computes 10 µs" in text
    assert "loop or aio (up to 100,000 messages a second" in text
    text = own(0.002, 726e-6, Cell("aio", "echo", 50, five(6_410)), asynchronous=True)
    assert "up to 6,410 messages a second" in text


def test_a_pool_of_more_threads_is_not_the_usual_one() -> None:
    text = own(0.005, 50e-6, Cell("pool", "echo", 50, five(15_000, threads=101)))
    assert "A pool with 32 threads serves up to 6,300" in text


def test_advice_does_not_flip_at_a_millisecond() -> None:
    below, above = advice(cpu=0.00098), advice(cpu=0.00105)
    for text in (below, above):
        assert "prefork" in text
        assert "2 workers" in text
        assert "threads only add switching" not in text
    assert "up to 2,000 messages a second on 2 cores" in below
    assert "loop or aio" in below
    assert "threads only add switching" in advice(cpu=0.0001)


def test_an_asynchronous_handler_is_for_aio() -> None:
    text = advice(wait=0.05, cpu=0.0003, asynchronous=True)
    assert "for aio" in text
    assert "up to 3,300 messages a second" in text
    assert "pool" not in text
    text = advice(wait=0.001, cpu=0.01, asynchronous=True)
    assert "While it computes 10 ms, nobody else is answered; prefork with aio" in text


def test_a_handler_class_keeps_its_thread() -> None:
    text = advice(wait=0.05, keeps=True)
    assert "a pool with as many threads as connections at once" in text
    assert "loop and aio cannot serve it" in text
    text = advice(cpu=0.01, keeps=True)
    assert "threads share one core (up to 100 messages a second); fork, and prefork" in text


@pytest.mark.parametrize(
    "handler",
    [
        {},
        {"wait": 0.1},
        {"wait": 0.1, "cpu": 0.1},
        {"wait": "long", "cpu": 0.1, "asynchronous": False, "keeps_worker": False},
        {"wait": -1, "cpu": 0.1, "asynchronous": False, "keeps_worker": False},
        {"wait": True, "cpu": 0.1, "asynchronous": False, "keeps_worker": False},
    ],
)
def test_what_is_not_known_is_not_advised(handler: dict[str, object]) -> None:
    made = result(Cell("loop", "echo", 50, [measured(10)]), tasks=[ECHO])
    made.handler = handler
    assert recommend(made) == []


def test_rounds_too_uneven_to_tell_are_not_called_equal() -> None:
    uneven = [Round(1.0, 100), Round(1.0, 300), Round(1.0, 320)]
    even = [Round(1.0, 190), Round(1.0, 200), Round(1.0, 210)]
    made = result(Cell("loop", "echo", 50, uneven), Cell("thread", "echo", 50, even), tasks=[ECHO])
    said = about("echo", made)
    assert "loop and thread cannot be told apart, so uneven are the rounds" in said
    assert "no difference" not in said
    slow = [Round(1.0, 10), Round(1.0, 11), Round(1.0, 12)]
    made = result(
        Cell("loop", "echo", 50, uneven),
        Cell("thread", "echo", 50, even),
        Cell("fork", "echo", 50, slow),
        tasks=[ECHO],
    )
    assert "loop is in front, 300 messages a second (too uneven to be told from thread)" in about(
        "echo", made
    )
