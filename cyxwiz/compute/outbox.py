"""What a node still has to tell central of its leases, sent in order over whatever connection there is."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cyxwiz.compute.runs import FULL_DISK_WAIT_SECONDS, Record
from cyxwiz.compute.uploads import Files
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.central_link import LinkSession
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.node_journal import NodeJournal

log = logging.getLogger(__name__)

FAULT_SECONDS = 5.0  # before a stream is ended that could not be used


class Outbox:
    """Sends reports from the journal, and the files that they name before them."""

    def __init__(self, journal: NodeJournal, files: Files, clock: Clock) -> None:
        self._journal = journal
        self._files = files
        self._clock = clock

    async def send(self, session: LinkSession, record: Record) -> None:
        """Sends a lease's reports in order from the journal, a result's files before the result.

        It ends when all is said or the stream is gone; a fault ends the stream as well, so that the next begins anew.
        """
        record.sent_seq = record.acked_seq
        try:
            while not record.settled:
                record.moved.clear()
                for report in await self._next_reports(record):
                    message = await self._with_files(record, report) if report.HasField("finished") else report
                    if record.dropped:
                        return
                    await session.send(pb.NodeMessage(report=message))
                    record.sent_seq = report.seq
                if record.sent_seq >= record.last_seq and not record.settled:
                    await record.moved.wait()
        except CyxError as error:
            log.info("reports of job %s wait for the next connection: %s", record.assign.job_id, error.message)
        except Exception:
            log.exception("reports of job %s wait for the next connection", record.assign.job_id)
            await self._clock.sleep(FAULT_SECONDS)
            await session.aclose()

    async def _next_reports(self, record: Record) -> Sequence[pb.Report]:
        job_id, token = record.key
        while (reports := record.at_hand()) is None:
            try:
                return await self._journal.unacknowledged(job_id, token, record.sent_seq)
            except CyxError as error:
                log.warning("reports of job %s can't be read back: %s", job_id, error.message)
                await self._clock.sleep(FULL_DISK_WAIT_SECONDS)
        return reports

    async def _with_files(self, record: Record, report: pb.Report) -> pb.Report:
        """The report of a result once all its files are stored; if they can't be, a failure stands in its place."""
        try:
            for artefact in report.finished.artefacts:
                await self._files.push(record.artefact(artefact.name), artefact.sha256, lambda: record.dropped)
        except (CyxError, OSError) as error:
            why = error.message if isinstance(error, CyxError) else error.strerror or type(error).__name__
            log.warning("the result of job %s can't be stored: %s", report.job_id, why)
            failed = pb.Failed(code=str(Code.INTERNAL), message=f"Its result was not stored: {why}", retryable=True)
            # Central would not have the files, and which ones there are is a script's choice.
            failed.by_script = record.assign.HasField("script") and isinstance(error, CyxError)
            record.instead = pb.Report(
                job_id=report.job_id, token=report.token, seq=report.seq, at_ms=report.at_ms, failed=failed
            )
            return record.instead
        record.instead = None
        return report
