"""What programs watch: /metrics for Prometheus, /healthz for whoever asks whether the dashboard is there.

Invariant: the figures are read anew at each scrape, through a registry of its own that holds nothing else (no
figures of this process). Names keep to Prometheus' rules: base units, `_total` only for what never falls.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import bottle

from qm_web.routes.api import counts
from qm_web.site import Site, as_json

if TYPE_CHECKING:
    from prometheus_client.core import Metric


def routes(app: bottle.Bottle, site: Site) -> None:
    """The addresses of this module."""
    app.get("/metrics", callback=lambda: metrics(site))
    app.get("/healthz", callback=lambda: health(site))


def health(site: Site) -> str:
    """Says that the dashboard answers, and whether the daemon lives; nothing else, since nobody need log in."""
    return as_json({"status": "ok", "daemon": "alive" if site.live.daemon() is not None else "down"})


def metrics(site: Site) -> bytes:
    """The figures in the format that the scraper asks for (Prometheus' text format, or OpenMetrics)."""
    from prometheus_client import CollectorRegistry  # here: it costs memory, and few ask for it
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry()
    registry.register(Figures(site))
    encode, content_type = choose_encoder(bottle.request.get_header("Accept", ""))
    bottle.response.content_type = content_type
    bottle.response.set_header("Cache-Control", "no-store")
    text: bytes = encode(registry)
    return text


class Figures:
    """A collector for one scrape."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def describe(self) -> list[Metric]:
        """Nothing: the registry need not know the names beforehand."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All figures of the spool."""
        from prometheus_client.core import GaugeMetricFamily as Gauge

        site = self._site
        site.index.refresh()
        holder, machine = site.live.daemon(), site.live.machine()
        yield Gauge("qm_up", "Whether QueueManager serves the spool (1) or not (0).", value=holder is not None)
        if holder is not None:
            text = "When QueueManager was started, in seconds since 1970 (UTC)."
            yield Gauge("qm_daemon_start_time_seconds", text, value=holder.started)
        yield Gauge("qm_draining", "Whether no jobs are started (1), as `qm drain` says.", value=site.live.draining())
        jobs = Gauge("qm_jobs", "Job folders in the spool by state.", labels=["state"])
        for state, number in counts(site).items():
            jobs.add_metric([state], number)
        yield jobs
        processors = Gauge("qm_processors", "Processors that running jobs have, and may have.", labels=["kind"])
        processors.add_metric(["used"], site.live.used().processors)
        processors.add_metric(["limit"], site.live.limits().processors)
        yield processors
        disk = Gauge("qm_spool_disk_bytes", "The file system of the spool, in bytes.", labels=["kind"])
        disk.add_metric(["free"], machine.disk_free)
        disk.add_metric(["total"], machine.disk_total)
        yield disk
