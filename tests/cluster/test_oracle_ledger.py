"""What publishers wrote down is read back as it was: known, failed, or unknown."""

from pathlib import Path

from tests.cluster.oracle.ledger import Draft, Ledger, read_histories, read_publishes
from tests.cluster.oracle.records import FAILED, OK, UNKNOWN, Publish, Seen


def written(directory: Path, *ends: str | None) -> Publish:
    """Write one publish with these ends of its attempts (None: the process died), and read it back."""
    draft = Draft("p.1", "acme", "/logs", "", "p", 1, "b")
    ledger = Ledger(directory, "p")
    for end in ends:
        ledger.trying(draft)
        if end is not None:
            ledger.ended(draft, end, "e-7" if end == OK else "why")
    ledger.close()
    (publish,) = read_publishes(directory)
    assert publish.attempts == len(ends) and publish.begun <= publish.ended
    return publish


def test_an_answered_publish_has_its_offset(tmp_path: Path) -> None:
    publish = written(tmp_path, OK)
    assert (publish.outcome, publish.offset, publish.tenant, publish.sequence) == (OK, "e-7", "acme", 1)
    assert publish.batch == "b"


def test_one_that_was_repeated_until_it_was_known_is_known(tmp_path: Path) -> None:
    assert written(tmp_path, UNKNOWN, FAILED, None, OK).outcome == OK


def test_one_that_nobody_took_has_failed(tmp_path: Path) -> None:
    assert written(tmp_path, FAILED, FAILED).outcome == FAILED


def test_one_attempt_in_doubt_leaves_all_in_doubt(tmp_path: Path) -> None:
    for number, ends in enumerate([(UNKNOWN,), (None,), (UNKNOWN, FAILED), (FAILED, None), (None, FAILED)]):
        directory = tmp_path / str(number)
        directory.mkdir()
        assert written(directory, *ends).outcome == UNKNOWN


def test_a_clients_file_is_read_by_namespace_and_without_a_half_written_line(tmp_path: Path) -> None:
    lines = [
        '[1.5,"/logs","connect","fresh"]',
        '[2,"/flows","connect","fresh"]',
        '[3,"/logs","event","p.1","acme",null]',
    ]
    (tmp_path / "07~acme.seen").write_text("\n".join([*lines, '[4,"/logs","ev']))
    logs, flows = read_histories(tmp_path)
    assert (logs.client, logs.tenant, logs.namespace) == ("07", "acme", "/logs")
    assert logs.seen == [Seen(1.5, "connect", "fresh"), Seen(3, "event", "p.1", "acme", None)]
    assert flows.seen == [Seen(2, "connect", "fresh")]
