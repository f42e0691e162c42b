"""Status and reports of a job as text and plain data, and task files by status."""

from __future__ import annotations

from cloud_tasks.report.data.earlier_output import is_event_log, is_export_or_report, is_task_dump
from cloud_tasks.report.data.export import FORMATS, KINDS, export_rows
from cloud_tasks.report.data.output_file import output_file
from cloud_tasks.report.data.report_data import ReportFacts, gather_facts, report_dict
from cloud_tasks.report.data.status import status_dict
from cloud_tasks.report.data.task_dump import dump_tasks
from cloud_tasks.report.html.page import render_page
from cloud_tasks.report.tables.instance_types import INSTANCE_TYPE_COLUMNS, TypeRow, type_rows
from cloud_tasks.report.text.configuration import render_job_configuration, render_selected_offer
from cloud_tasks.report.text.final import render_final_report
from cloud_tasks.report.text.instances import render_instance_table, render_pending
from cloud_tasks.report.text.markdown import render_markdown
from cloud_tasks.report.text.plan import (
    plan_dict,
    render_command,
    render_forecast,
    render_headroom,
    render_offers,
    render_price,
    render_rejected,
)
from cloud_tasks.report.text.summary import render_activity, render_summary, status_counts
from cloud_tasks.report.text.task_log import render_task_log, task_log_dict
from cloud_tasks.store import Throughput, throughput

__all__ = [
    "FORMATS",
    "INSTANCE_TYPE_COLUMNS",
    "KINDS",
    "ReportFacts",
    "Throughput",
    "TypeRow",
    "dump_tasks",
    "export_rows",
    "gather_facts",
    "is_event_log",
    "is_export_or_report",
    "is_task_dump",
    "output_file",
    "plan_dict",
    "render_activity",
    "render_command",
    "render_final_report",
    "render_forecast",
    "render_headroom",
    "render_instance_table",
    "render_job_configuration",
    "render_markdown",
    "render_offers",
    "render_page",
    "render_pending",
    "render_price",
    "render_rejected",
    "render_selected_offer",
    "render_summary",
    "render_task_log",
    "report_dict",
    "status_counts",
    "status_dict",
    "task_log_dict",
    "throughput",
    "type_rows",
]
