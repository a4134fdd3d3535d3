"""The database: that of every earlier release opens, on SQLite and PostgreSQL."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import ValidationError

from dg2_jax.serve import database, disk, migrations, tables
from dg2_jax.serve.schemas import EXAMPLES, job_request, stored_request
from dg2_jax.serve.server_settings import ServerSettings
from dg2_jax.serve.store import Store
from tests.serve.live import LiveServer

RELEASES = Path(__file__).parents[1] / "golden" / "jobs"  # dumps of databases that they wrote
DONE, WAITS = "066169a0f64e19777a46", "066169a0f64e463c4cc7"


def url_of(folder):
    """Where a server with this data folder keeps its jobs, by the environment of the test."""
    return ServerSettings(data=folder).database_url


@pytest.mark.usefixtures("each_database")
def test_the_steps_make_the_tables_that_the_code_describes(tmp_path):
    engine = database.connect(url_of(tmp_path))
    with engine.connect() as connection:
        assert migrations.version(connection) == migrations.LATEST
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    engine.dispose()


def test_the_latest_step_is_the_latest_version():
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert scripts.get_current_head() == migrations.LATEST


@pytest.mark.parametrize("release", ["first", "with_notes"])
def test_a_data_folder_of_an_earlier_release_opens(tmp_path, release):
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as connection:
        connection.executescript((RELEASES / f"{release}.sql").read_text())
    for _ in range(2):  # the second time nothing is left to do
        store = Store.at(tmp_path)
        done, waits = store.get(DONE), store.get(WAITS)
        assert (done.status, done.notes, done.request.seed) == ("done", [], 7)
        assert [image.prompt for image in done.images] == ["a lake at dawn"]
        assert (waits.status, waits.request.prompt) == ("queued", "bamboo in rain")
        assert [image.id for image in store.images(10)] == [f"{DONE}_000"]
        store.close()
    server = LiveServer(tmp_path)
    try:
        assert server.finished(WAITS)["status"] == "done"
    finally:
        server.stop()


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_stored_request_has_the_settings_of_the_one_that_was_made(kind):
    request = job_request.validate_python(EXAMPLES[kind]["value"])
    read = stored_request(kind, json.loads(json.dumps(request.fields())))
    assert read.settings() == request.settings()
    assert read.asks_the_same(request)


@pytest.mark.usefixtures("each_database")
def test_a_database_of_a_later_release_is_left_alone(tmp_path):
    engine = database.connect(url_of(tmp_path))
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(database.UnusableError, match="version 9999, this release knows"):
        database.connect(url_of(tmp_path))


def test_a_step_that_fails_leaves_the_old_version(tmp_path, monkeypatch):
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as connection:
        connection.executescript((RELEASES / "first.sql").read_text())
        # What the third step makes is there already, so it fails after the second.
        connection.execute("CREATE TABLE paused_clients (client TEXT)")
    with pytest.raises(sa.exc.OperationalError, match="already exists"):
        database.connect(database.in_folder(tmp_path))
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as connection:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(jobs)")}
        assert "notes" not in columns
        connection.execute("DROP TABLE paused_clients")
    database.connect(database.in_folder(tmp_path)).dispose()


def test_several_processes_may_open_a_new_database_at_once(postgresql):
    url = postgresql.new_database()
    code = f"from dg2_jax.serve import database; database.connect({url!r})"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]


def start_server(folder, **environment):
    """What `python -m serve` says, and its exit status, where it does not start."""
    command = [sys.executable, "-m", "tests.serve.live", "--port=0", f"--data={folder}"]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | environment
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("damage", ["no database", "a torn page"])
def test_a_damaged_database_is_one_line_that_says_what_to_do(tmp_path, damage):
    file = tmp_path / "jobs.sqlite3"
    if damage == "no database":
        file.write_bytes(b"these are no jobs" * 1000)
    else:
        Store.at(tmp_path).close()
        data = bytearray(file.read_bytes())
        data[4096 : 2 * 4096] = b"\xff" * 4096
        file.write_bytes(data)
    status, said = start_server(tmp_path)
    assert status == 2
    assert said.count("\n") == 1, said
    assert f"{file} is damaged" in said
    assert "move it away" in said


def test_a_database_that_is_not_there_is_told_without_its_password(tmp_path):
    url = "postgresql+psycopg://dg2:secret-word@127.0.0.1:9/jobs?connect_timeout=2"
    status, said = start_server(tmp_path, DG2_DATABASE=url)
    assert status == 2
    assert said.count("\n") == 1, said
    assert "error: database: postgresql+psycopg://dg2:***@127.0.0.1:9/jobs" in said
    assert "secret-word" not in said


@pytest.mark.parametrize("url", ["jobs.db", "mysql://a@b/c", "postgresql://a@b/c", ""])
def test_other_databases_are_refused_by_name(url):
    with pytest.raises(ValidationError, match=r"database\n.*postgresql\+psycopg://"):
        ServerSettings(database=url)


def test_a_lost_database_is_unreachable_and_a_full_one_is_full(postgresql):
    store = Store(postgresql.new_database())
    postgresql.kill()
    with pytest.raises(disk.ERRORS) as caught:
        store.get("x")
    assert disk.reason(caught.value) == disk.UNREACHABLE
    postgresql.start()
    assert store.get("x") is None
    store.close()


def test_jobs_wait_while_the_database_is_away(postgresql, start):
    """What was accepted is computed when it is back; requests meanwhile are told when to ask."""
    server = start(step_seconds=0.05, database=postgresql.new_database())
    first = server.submit(prompt="before", num_inference_steps=20)["id"]
    postgresql.kill()
    answer = server.client.post("/api/v1/jobs", json={"kind": "txt2img", "prompt": "meanwhile"})
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    postgresql.start()
    assert server.finished(first)["status"] == "done"
    second = server.submit(prompt="after")["id"]
    assert server.finished(second)["status"] == "done"
