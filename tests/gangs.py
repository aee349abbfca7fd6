"""Members of a gang in real processes, without central: what they ask each other is answered here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from cyxwiz.ports.executor import Asked, Checkpointed, Executor, Gang, Outcome, Progressed, Report, Run, Work


@dataclass
class Keeper:
    """Keys and values of one group, as central keeps them."""

    values: dict[str, bytes] = field(default_factory=dict)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def answer(self, run: Run, asked: Asked) -> None:
        async with self.news:
            if asked.kind == "set":
                self.values[asked.key] = asked.value
            elif asked.kind == "add":
                self.values[asked.key] = str(int(self.values.get(asked.key, b"0")) + int(asked.value)).encode()
            else:
                await self.news.wait_for(lambda: asked.key in self.values)
            self.news.notify_all()
            run.answer(asked.id, self.values[asked.key])


@dataclass
class Told:
    """What the members said: of the first one all, of the others how they ended."""

    reports: list[Report]
    ends: list[Outcome]

    @property
    def losses(self) -> list[float]:
        points = [each for each in self.reports if isinstance(each, Progressed) and each.epoch_ended]
        return [each.metrics["loss"] for each in points]

    @property
    def checkpoints(self) -> list[Checkpointed]:
        return [each for each in self.reports if isinstance(each, Checkpointed)]


async def train_together(
    executor: Executor, work: Work, world: int, strategy: str = "ddp", preempt_at: int | None = None
) -> Told:
    """Runs the job on `world` members; `preempt_at`: at that epoch's end the last one is told to save and stop."""
    keeper, told, runs = Keeper(), [list[Report]() for _ in range(world)], list[Run]()

    async def member(rank: int) -> Outcome:
        mine = replace(work, work_dir=work.work_dir / str(rank), gang=Gang(rank, world, strategy))
        run = await executor.start(mine)
        runs.append(run)
        end: Outcome | None = None
        async with asyncio.TaskGroup() as answers:
            async for report in run.reports():
                told[rank].append(report)
                if isinstance(report, Asked):
                    answers.create_task(keeper.answer(run, report))
                if isinstance(report, Progressed) and report.epoch_ended and report.epoch == preempt_at:
                    runs[-1].preempt()
                if isinstance(report, Outcome):
                    end = report
        assert end is not None
        return end

    ends = await asyncio.gather(*(member(rank) for rank in range(world)))
    return Told(told[0], ends)
