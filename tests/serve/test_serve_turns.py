"""Networks of clients take turns at the model."""

from __future__ import annotations

import asyncio
import random

from han_retrieval.serve.turns import Turns


def test_who_asks_much_waits_and_others_do_not():
    async def main() -> list[str]:
        turns, served = Turns(), []

        async def ask(network: str) -> None:
            await turns.acquire(network)
            await asyncio.sleep(0.001)
            served.append(network)
            turns.release()

        asking = [asyncio.create_task(ask("a")) for _ in range(50)]
        await asyncio.sleep(0)
        assert turns.waiting("a") == 49
        asking += [asyncio.create_task(ask(network)) for network in "bbcc"]
        await asyncio.gather(*asking)
        assert (turns.waiting("a"), turns._taken) == (0, False)
        return served

    served = asyncio.run(main())
    assert sorted(served[:8]) == list("aaaabbcc")
    assert len(served) == 54


def test_whoever_gives_up_takes_no_turn_and_loses_none():
    async def main() -> None:
        turns, order = Turns(), random.Random(0)
        inside = done = 0

        async def ask(network: str, patience: float) -> None:
            nonlocal inside, done
            await asyncio.wait_for(turns.acquire(network), patience)
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.001 * order.random())
            inside -= 1
            done += 1
            turns.release()

        asking = [ask(order.choice("abc"), order.choice([0.0, 0.005, 0.02, 30])) for _ in range(300)]
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(answer) for answer in answers} == {type(None), TimeoutError}
        assert done == answers.count(None) > 50
        assert not turns._taken
        assert not turns._waiting

    asyncio.run(main())
