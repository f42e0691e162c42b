"""The tables, and the migrations of older databases.

Times are Unix seconds (UTC), money is decimal text, enum values are the codes of `enum_codes`.
"""

from __future__ import annotations

import sqlite3

__all__ = ["APPLICATION_ID", "READABLE_SINCE", "SCHEMA_VERSION", "migrate"]

APPLICATION_ID = 0x636C7473
"""Marks a file as a job database, in the header of the SQLite file."""

_VERSION_1 = """
CREATE TABLE job (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    job_id TEXT NOT NULL,
    queue_name TEXT NOT NULL,
    run_id TEXT NOT NULL,
    created_at REAL NOT NULL,
    provider TEXT NOT NULL,
    queue TEXT NOT NULL,
    compute TEXT NOT NULL,
    pricing TEXT NOT NULL,
    task_source TEXT NOT NULL,
    tool_version TEXT NOT NULL,
    config TEXT NOT NULL,
    state TEXT NOT NULL,
    finished_at REAL
);

-- attempt: number of the running attempt, or of the next one.
CREATE TABLE tasks (
    seq INTEGER PRIMARY KEY,
    task_id TEXT NOT NULL UNIQUE,
    data TEXT NOT NULL,
    status INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 1,
    losses INTEGER NOT NULL DEFAULT 0,
    elapsed REAL,
    ended_at REAL
);

-- One row per execution of an attempt: an interrupted attempt runs again under its number. host: its worker;
-- ended_by: its end event.
CREATE TABLE attempts (
    task INTEGER NOT NULL,
    run INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    outcome INTEGER,
    started_at REAL,
    ended_at REAL,
    elapsed REAL,
    host INTEGER NOT NULL,
    reason TEXT,
    ended_by INTEGER,
    PRIMARY KEY (task, run)
) WITHOUT ROWID;
CREATE INDEX attempts_running ON attempts (host) WHERE outcome IS NULL;

-- task_id: only for a task that the job does not have.
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    type INTEGER NOT NULL,
    at REAL NOT NULL,
    host INTEGER NOT NULL,
    task INTEGER,
    task_id TEXT,
    attempt INTEGER,
    details TEXT
);

-- Workers, identified by instance id and host name.
CREATE TABLE hosts (
    host INTEGER PRIMARY KEY,
    instance_id TEXT NOT NULL,
    hostname TEXT NOT NULL,
    last_heard REAL NOT NULL,
    last_busy REAL,
    running INTEGER NOT NULL DEFAULT 0,
    finished INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    spot_terminated_at REAL,
    UNIQUE (instance_id, hostname)
);

CREATE TABLE instances (
    client_token TEXT PRIMARY KEY,
    instance_id TEXT UNIQUE,
    instance_type TEXT NOT NULL,
    zone TEXT NOT NULL,
    purchase TEXT NOT NULL,
    boot_disk_type TEXT NOT NULL,
    boot_disk_gb REAL NOT NULL,
    vcpus INTEGER NOT NULL,
    slots INTEGER NOT NULL,
    price_per_hour TEXT NOT NULL,
    intended_at REAL NOT NULL,
    launched_at REAL,
    ended_at REAL,
    end_reason TEXT NOT NULL DEFAULT '',
    state TEXT,
    last_seen REAL
);
CREATE INDEX instances_alive ON instances (client_token) WHERE ended_at IS NULL;

-- Cost of the terminated instances; that of the running ones is added when it is read.
CREATE TABLE spending (
    instance_type TEXT NOT NULL,
    purchase TEXT NOT NULL,
    instances INTEGER NOT NULL,
    seconds REAL NOT NULL,
    cost TEXT NOT NULL,
    PRIMARY KEY (instance_type, purchase)
) WITHOUT ROWID;

-- Updated by every transaction that changes the rows that they count.
CREATE TABLE counters (name TEXT PRIMARY KEY, value NUMERIC NOT NULL) WITHOUT ROWID;
-- No longer used; the next migration may drop it.
CREATE TABLE exceptions (summary TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE elapsed_sketch (bucket INTEGER PRIMARY KEY, count INTEGER NOT NULL);

-- The latest dead-lettered messages of the event queue.
CREATE TABLE set_aside (id INTEGER PRIMARY KEY, at REAL NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL);
"""

# choices: offers that the provider may select from, the requested one first: [[type, zone, price per hour], ...].
_VERSION_2 = "ALTER TABLE instances ADD COLUMN choices TEXT NOT NULL DEFAULT '[]';"

# Drops last_seen, which is unused. By a copy: SQLite drops columns from version 3.35 on only.
_VERSION_3 = """
CREATE TABLE instances_3 (
    client_token TEXT PRIMARY KEY,
    instance_id TEXT UNIQUE,
    instance_type TEXT NOT NULL,
    zone TEXT NOT NULL,
    purchase TEXT NOT NULL,
    boot_disk_type TEXT NOT NULL,
    boot_disk_gb REAL NOT NULL,
    vcpus INTEGER NOT NULL,
    slots INTEGER NOT NULL,
    price_per_hour TEXT NOT NULL,
    intended_at REAL NOT NULL,
    launched_at REAL,
    ended_at REAL,
    end_reason TEXT NOT NULL DEFAULT '',
    state TEXT,
    choices TEXT NOT NULL DEFAULT '[]'
);
INSERT INTO instances_3 SELECT client_token, instance_id, instance_type, zone, purchase, boot_disk_type, boot_disk_gb,
    vcpus, slots, price_per_hour, intended_at, launched_at, ended_at, end_reason, state, choices
    FROM instances ORDER BY rowid;
DROP TABLE instances;
ALTER TABLE instances_3 RENAME TO instances;
CREATE INDEX instances_alive ON instances (client_token) WHERE ended_at IS NULL;
"""

# place: what decides where the job's queues and instances are, a JSON object of texts.
# consoles: the last output of instances that ended, or were terminated, before their worker started.
# rebate: how much less than uptime times price an instance costs, because its price was lower before.
# deadline: time at which the instance ends itself.
_VERSION_4 = """
ALTER TABLE job ADD COLUMN place TEXT NOT NULL DEFAULT '{}';
ALTER TABLE instances ADD COLUMN rebate TEXT NOT NULL DEFAULT '0';
ALTER TABLE instances ADD COLUMN deadline REAL;
CREATE TABLE consoles (instance_id TEXT PRIMARY KEY, log TEXT NOT NULL) WITHOUT ROWID;
"""

# ends_by: time by which the instance has certainly ended itself.
_VERSION_5 = "ALTER TABLE instances ADD COLUMN ends_by REAL;"

# pending_until, started_at, state_reason: `InstanceRecord.pending_until`, `.started_at`, `.reason`.
_VERSION_6 = """
ALTER TABLE instances ADD COLUMN pending_until REAL;
ALTER TABLE instances ADD COLUMN started_at REAL;
ALTER TABLE instances ADD COLUMN state_reason TEXT NOT NULL DEFAULT '';
"""

# event_queue_name: empty for the name of the task queue with "-events".
# former_queues: `JobRecord.former_queues`, a JSON list.
_VERSION_7 = """
ALTER TABLE job ADD COLUMN event_queue_name TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN former_queues TEXT NOT NULL DEFAULT '[]';
"""

_MIGRATIONS = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4, _VERSION_5, _VERSION_6, _VERSION_7)
"""The script at index i migrates version i to version i + 1."""

SCHEMA_VERSION = len(_MIGRATIONS)
READABLE_SINCE = 2
"""The oldest version that can be read without migration: later ones removed only what nothing reads, and added what the
defaults of the records replace."""


def migrate(connection: sqlite3.Connection, *, until: int = SCHEMA_VERSION) -> None:
    """Migrate an empty or older database to a version, each one in its own transaction."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, script in enumerate(_MIGRATIONS[version:until], start=version + 1):
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number};"
        connection.executescript(f"BEGIN IMMEDIATE; {script} {marks} COMMIT;")
