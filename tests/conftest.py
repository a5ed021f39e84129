"""Closes a run with a line that any reader of test results understands."""


def pytest_unconfigure(config) -> None:
    counts = config.pluginmanager.get_plugin("terminalreporter").stats
    failed = len(counts.get("failed", [])) + len(counts.get("error", []))
    print(f"{len(counts.get('passed', []))} passed, {failed} failed")
