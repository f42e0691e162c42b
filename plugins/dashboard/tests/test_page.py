"""The page in Chromium."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import chromium
import pytest
from made_jobs import at, completed, exited, failed, launch, make_job, started
from served import Served, serve

from cloud_tasks.store import JobState, Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

with contextlib.suppress(ImportError):  # The browser fixture says what is missing.
    from playwright.sync_api import expect

Open = Callable[..., "Page"]

CONTRAST = """
() => {
  const light = (colour) => {
    const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = parse(getComputedStyle(each).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour.slice(0, 3);
    }
    return parse(getComputedStyle(document.documentElement).backgroundColor).slice(0, 3);
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest("svg, :disabled, .tip, noscript")) continue;
    const [one, two] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    if (ratio < 4.5) bad.push(`${ratio.toFixed(2)}: ${walker.currentNode.data.trim().slice(0, 40)}`);
  }
  return bad;
}
"""
"""Texts whose contrast is below 4.5 (WCAG 2.2, criterion 1.4.3)."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    missing = chromium.missing()
    if missing and chromium.required():
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    with chromium.browser() as found:
        yield found


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open a page; console errors, warnings and requests to other hosts fail the test."""
    complaints: list[str] = []
    contexts = []

    def open_page(served: Served, *, scheme: str = "light", width: int = 1280, allow: str = "") -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            reduced_motion="reduce",
            color_scheme="dark" if scheme == "dark" else "light",
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)

        def record(text: str) -> None:
            if not allow or not re.search(allow, text):
                complaints.append(text)

        page.on("console", lambda message: record(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: record(str(error)))
        page.on("request", lambda r: None if r.url.startswith(served.address) else record(f"requested {r.url}"))
        page.goto(served.address)
        page.wait_for_selector("#content:not([hidden])")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


TASKS = [f"tile-{number:03d}" for number in range(80)]


def run_job(folder: Path, *, name: str = "survey.db", job_id: str = "survey") -> Path:
    """Create a job of 80 tasks on two instances, of which the last five are unfinished."""
    path = make_job(folder, TASKS, name=name, job_id=job_id)
    with Store.open(path, durable=False) as store:
        launch(store, "h1", ended=95)
        launch(store, "h2", when=10)
        events = [completed(t, 12.0 + n, elapsed=1.5 + n % 5, host=f"h{n % 2 + 1}") for n, t in enumerate(TASKS[:60])]
        events += [
            failed(t, 72.0 + n, message=f"no stars in frame {n}", printed="reading") for n, t in enumerate(TASKS[60:70])
        ]
        events += [exited(t, 82.0 + n, 3) for n, t in enumerate(TASKS[70:75])]
        events += [started(TASKS[75], 90, host="h2")]
        store.apply_events(events)
    return path


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A served job, for read-only tests."""
    folder = tmp_path_factory.mktemp("survey")
    run_job(folder)
    with serve(folder, clock=lambda: at(100)) as served:
        yield served


def wait_for_rows(page: Page, number: int) -> None:
    """Wait until the task table has this number of rows."""
    expect(page.locator("#tasks tbody tr")).to_have_count(number)


def statistic(page: Page, name: str) -> str:
    label = page.locator("dt", has_text=re.compile(f"^{name}$"))
    return page.locator("#statistics div", has=label).locator("dd").inner_text()


def rows(page: Page) -> list[str]:
    return page.locator("#tasks tbody tr td:first-child").all_inner_texts()


def test_page_shows_the_status_of_a_job(survey: Served, open_page: Open) -> None:
    page = open_page(survey)
    assert page.locator("h1").inner_text() == "survey"
    assert page.locator("#badge").inner_text().startswith("no controller since ")
    assert page.locator("#live").inner_text() == "not live"
    assert "resume it with `cloud-tasks run --continue`" in page.locator("#activity").inner_text()
    assert page.title() == "94% survey · cloud-tasks"
    assert [text.replace("\xa0", " ").strip() for text in page.locator("#legend li").all_inner_texts()] == [
        "60 completed",
        "15 failed",
        "1 running",
        "4 queued",
    ]
    assert statistic(page, "Finished").startswith("94%\n75 of 80")
    assert statistic(page, "Instances").startswith("1\n2 launched")
    assert page.locator("#jobs").is_hidden()
    for name in ("rate", "cost", "fleet", "times"):
        assert page.locator(f"#{name} svg[role=img]").get_attribute("aria-label")
    assert page.locator("#rate rect.f-completed").count() > 10
    assert page.locator("#slowest tbody tr").count() == 12


def test_page_updates_while_open(tmp_path: Path, open_page: Open) -> None:
    path = run_job(tmp_path)
    with serve(tmp_path, clock=lambda: at(100)) as served, Store.open(path, durable=False) as store:
        page = open_page(served)
        expect(page.locator("#live")).to_have_text("live")
        assert page.locator("#badge").inner_text() == "running"
        store.apply_events([completed(task, 100, host="h2") for task in TASKS[75:]])
        expect(page.locator("#badge")).to_have_text("finishing")
        store.set_state(JobState.FINISHED, at(100))
        expect(page.locator("#badge")).to_have_text("finished, 15 failed")
        assert statistic(page, "Finished").startswith("100%")


def test_failure_group_shows_traceback_and_filters_the_task_table(survey: Served, open_page: Open) -> None:
    page = open_page(survey)
    groups = page.locator("#failures details")
    assert [text.split("\n")[0] for text in groups.all_inner_texts()] == ["10", "5"]
    assert "ValueError: no stars in frame 9" in groups.nth(0).inner_text()
    groups.nth(0).locator("summary").click()
    groups.nth(0).locator("pre").first.wait_for()
    assert groups.nth(0).locator("pre").all_inner_texts() == [
        "Traceback (most recent call last):\nValueError: bad",
        "reading",
    ]
    groups.nth(1).locator("summary").click()
    groups.nth(1).get_by_role("button", name="show tasks in the table").click()
    wait_for_rows(page, 5)
    assert rows(page) == TASKS[70:75]
    assert "failure: exit code 3" in page.locator("#reason").inner_text()
    page.get_by_role("button", name="Remove this filter").click()
    wait_for_rows(page, 25)


def test_task_table_is_filtered_and_paged(survey: Served, open_page: Open) -> None:
    page = open_page(survey)
    wait_for_rows(page, 25)
    assert page.locator("#first").is_disabled()
    page.click("#next")
    expect(page.locator("#tasks tbody td").first).to_have_text("tile-025")
    assert "50 of 80" in page.locator("#where").inner_text()
    page.get_by_label("Status", exact=False).and_(page.locator("select")).select_option("failed_any")
    wait_for_rows(page, 15)
    assert rows(page) == TASKS[60:75]
    page.get_by_label("Task id contains").fill("-07")
    wait_for_rows(page, 5)
    page.get_by_label("Task id contains").fill("nothing like it")
    page.get_by_text("No matching task.").wait_for()


def test_task_dialog_works_with_the_keyboard(survey: Served, open_page: Open) -> None:
    page = open_page(survey)
    page.get_by_label("Task id contains").fill("tile-061")
    wait_for_rows(page, 1)
    page.locator("#tasks tbody button").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="tile-061")
    dialog.wait_for()
    assert "Attempt 1: exception after" in dialog.inner_text()
    assert '"of": "tile-061"' in dialog.inner_text()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert page.evaluate("document.activeElement.textContent") == "tile-061"


def test_keyboard_focus_is_visible(survey: Served, open_page: Open) -> None:
    page = open_page(survey)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(12):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML")


def test_timeline_shows_a_tooltip_and_opens_a_task(survey: Served, open_page: Open) -> None:
    page = open_page(survey)
    canvas = page.locator("#line canvas")
    canvas.scroll_into_view_if_needed()
    assert (canvas.get_attribute("aria-label") or "").startswith("2 instances over")
    box = canvas.bounding_box()
    assert box is not None
    # The first lane from end to end: somewhere on it is a task.
    for step in range(200):
        page.mouse.move(box["x"] + 195 + step * (box["width"] - 200) / 200, box["y"] + 30)
        if "completed after" in page.locator("#tip").inner_text():
            break
    assert "i-h1" in page.locator("#tip").inner_text()
    page.mouse.down()
    page.mouse.up()
    page.get_by_role("dialog").wait_for()


def test_page_never_interprets_text_of_tasks_as_markup(tmp_path: Path, open_page: Open) -> None:
    evil = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
    trace = f"Traceback\n{evil}"
    make_job(
        tmp_path,
        [evil, "b"],
        job_id=evil[:40],
        events=[started(evil, 1, host=evil), failed(evil, 2, message=evil, trace=trace, printed=evil, host=evil)],
    )
    with serve(tmp_path) as served:
        page = open_page(served)
        page.locator("#failures summary").click()
        page.locator("#failures pre").first.wait_for()
        page.locator("#tasks tbody button").first.click()
        page.get_by_role("dialog").wait_for()
        assert evil in page.get_by_role("dialog").inner_text()
        assert rows(page)[0] == evil
        assert page.locator("main img, dialog img, main script, dialog script").count() == 0
        assert "taken" not in page.title().replace(evil[:40], "")


FORBIDDEN = """
() => {
  const refused = (attempt) => { try { attempt(); return "done"; } catch (error) { return error.name; } };
  const script = document.createElement("script");
  return [
    refused(() => { document.body.innerHTML = "<b>x</b>"; }),
    refused(() => { script.setAttribute("src", "data:text/javascript,window.taken=1"); }),
    refused(() => { script.textContent = "window.taken = 1"; }),
  ];
}
"""


def test_browser_enforces_the_content_security_policy(survey: Served, open_page: Open) -> None:
    page = open_page(survey, allow="has been blocked|violates")
    assert page.evaluate(FORBIDDEN) == ["TypeError", "TypeError", "TypeError"]
    assert page.evaluate("() => fetch('http://127.0.0.2:9/').catch((error) => error.name)") == "TypeError"
    assert page.evaluate("() => window.taken === undefined")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrast_is_sufficient_in_light_and_dark_mode(survey: Served, open_page: Open, scheme: str) -> None:
    page = open_page(survey, scheme=scheme)
    page.locator("#failures summary").first.click()
    page.locator("#failures pre").first.wait_for()
    assert page.evaluate(CONTRAST) == []
    page.locator("#tasks tbody button").first.click()
    page.get_by_role("dialog").wait_for()
    assert page.evaluate(CONTRAST) == []


def test_colour_scheme_switch_is_persistent(survey: Served, open_page: Open) -> None:
    page = open_page(survey, scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Switch between light and dark").click()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light != dark
    page.reload()
    page.wait_for_selector("#content:not([hidden])")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == light
    page.get_by_role("button", name="Switch between light and dark").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_job_list_selects_a_job(tmp_path: Path, open_page: Open) -> None:
    run_job(tmp_path)
    other = make_job(tmp_path, ["a"], name="other.db", job_id="other", created=-50, events=[completed("a", 1)])
    with Store.open(other, durable=False) as store:
        store.set_state(JobState.FINISHED, at(1))
    (tmp_path / "notes.db").write_text("no database")
    with serve(tmp_path) as served:
        page = open_page(served)
        assert page.locator("h1").inner_text() == "survey"
        listed = page.get_by_role("navigation", name="Jobs of this folder").get_by_role("button")
        assert [text.split("\n")[0] for text in listed.all_inner_texts()] == ["survey", "other"]
        listed.nth(1).click()
        expect(page.locator("h1")).to_have_text("other")
        wait_for_rows(page, 1)
        assert page.locator("#badge").inner_text() == "complete"
        page.reload()
        expect(page.locator("h1")).to_have_text("other")


def test_page_of_an_empty_folder_shows_a_notice(tmp_path: Path, browser: Browser) -> None:
    with serve(tmp_path) as served:
        page = browser.new_page()
        page.goto(served.address)
        page.get_by_text("No job database").wait_for()
        page.close()


def test_page_reports_a_stopped_server(tmp_path: Path, open_page: Open) -> None:
    path = run_job(tmp_path)
    with Store.open(path, durable=False):
        with serve(tmp_path) as served:
            page = open_page(served, allow="ERR_CONNECTION_REFUSED")
            expect(page.locator("#live")).to_have_text("live")
        page.get_by_text("The dashboard server has stopped; start").wait_for()
        assert page.locator("#live").inner_text() == "not connected"


@pytest.mark.parametrize("width", [380, 800, 1500])
def test_page_fits_the_window_width(survey: Served, open_page: Open, width: int) -> None:
    page = open_page(survey, width=width)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_controls_have_accessible_names(survey: Served, open_page: Open) -> None:
    page = open_page(survey)
    named = "each.getAttribute('aria-label') || each.closest('label') || each.textContent.trim()"
    controls = "[...document.querySelectorAll('button, input, select, [role=img]')]"
    assert page.evaluate(f"() => {controls}.filter((each) => !({named})).map((each) => each.outerHTML)") == []
    levels = page.evaluate("() => [...document.querySelectorAll('h1, h2')].map((each) => each.tagName)")
    assert levels[0] == "H1"
    assert levels.count("H1") == 1


def test_page_loads_a_long_history_in_chunks(tmp_path: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_tasks_dashboard.watch._CHUNK", 400)
    monkeypatch.setattr("cloud_tasks_dashboard.watch._TIME_LIMIT", 0.0)
    tasks = [f"t{number:04d}" for number in range(2000)]
    path = make_job(tmp_path, tasks)
    with Store.open(path, durable=False) as store:
        launch(store, "h1", slots=4)
        launch(store, "h2", slots=4)
        events = [completed(t, 5 + n / 10, elapsed=1.0, host=f"h{n % 2 + 1}") for n, t in enumerate(tasks[:1990])]
        store.apply_events([*events, *(started(t, 203) for t in tasks[1990:])])
    with serve(tmp_path, clock=lambda: at(210)) as served, Store.open(path, durable=False):
        page = open_page(served)
        expect(page.locator("#s-line")).to_contain_text("Utilization of each instance")
        expect(page.locator("#live")).to_have_text("live")
        assert page.locator("#slowest tbody tr").count() == 12
        page.locator("#line canvas").hover(position={"x": 600, "y": 35})
        expect(page.locator("#tip")).to_contain_text("of its slots in use")
