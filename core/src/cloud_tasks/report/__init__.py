"""Status and reports of a job as text and plain data, and task files by status."""

from __future__ import annotations

from cloud_tasks.report.data.status import status_dict
from cloud_tasks.report.data.task_dump import dump_tasks
from cloud_tasks.report.text.configuration import render_job_configuration, render_selected_offer
from cloud_tasks.report.text.final import render_final_report
from cloud_tasks.report.text.formatting import counted, format_cost, format_duration
from cloud_tasks.report.text.instances import render_instance_table
from cloud_tasks.report.text.plan import plan_dict, render_forecast, render_headroom, render_offers, render_rejected
from cloud_tasks.report.text.summary import render_elapsed, render_summary
from cloud_tasks.store import Throughput, throughput

__all__ = [
    "Throughput",
    "counted",
    "dump_tasks",
    "format_cost",
    "format_duration",
    "plan_dict",
    "render_elapsed",
    "render_final_report",
    "render_forecast",
    "render_headroom",
    "render_instance_table",
    "render_job_configuration",
    "render_offers",
    "render_rejected",
    "render_selected_offer",
    "render_summary",
    "status_dict",
    "throughput",
]
