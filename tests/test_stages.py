"""Processor time by stage: inner stages take their time from outer ones, and threads count."""

from __future__ import annotations

import threading
import time

from han_retrieval.stages import StageTimes, stage


def work(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_an_inner_stage_takes_its_time_from_the_outer_one():
    times = StageTimes(parallel=())
    with stage("outer"):
        work(0.02)
        with stage("inner"):
            work(0.05)
        work(0.02)
    found = times.seconds()
    assert found.keys() == {"outer", "inner"}
    assert found["inner"] >= 0.05
    assert found["outer"] >= 0.04


def test_other_threads_count_and_those_in_no_stage_go_to_what_is_parallel():
    def reader() -> None:
        with stage("read"):
            work(0.03)

    times = StageTimes(parallel=("network", "encode"))
    threads = [threading.Thread(target=reader), threading.Thread(target=work, args=(0.06,))]
    for thread in threads:
        thread.start()
    with stage("network"):
        work(0.02)
        for thread in threads:
            thread.join()
    found = times.seconds()
    assert found.keys() == {"read", "network"}
    assert 0.03 <= found["read"] < 0.08
    assert found["network"] >= 0.08


def test_times_begin_where_they_are_asked_for():
    with stage("before"):
        work(0.01)
    assert StageTimes(parallel=()).seconds() == {}


def test_an_error_ends_the_stage():
    times = StageTimes(parallel=())
    try:
        with stage("outer"), stage("inner"):
            raise ValueError
    except ValueError:
        pass
    work(0.01)
    assert sum(times.seconds().values()) < 0.01
