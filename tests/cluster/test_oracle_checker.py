"""The oracle's checker on histories made by hand: it finds what is wrong, and nothing else."""

from dataclasses import replace
from typing import Any

import pytest

from tests.cluster.oracle.checker import check
from tests.cluster.oracle.missing import GRACE
from tests.cluster.oracle.records import (
    ANEW,
    DISORDERED,
    EARLY,
    FAILED,
    LEAKED,
    LOST,
    MISNUMBERED,
    PHANTOM,
    STRANDED,
    TWICE,
    UNKNOWN,
    History,
    Publish,
    Seen,
)

FRESH, RECOVERED = Seen(0.0, "connect", "fresh"), Seen(50.0, "connect", "recovered")


def published(number: int, *, tenant: str = "a", epoch: str = "e", **more: Any) -> Publish:
    """Publish `number`, in the tenth of a second after it began: at `number` seconds."""
    return Publish(
        **{
            "id": f"{tenant}{number}",
            "tenant": tenant,
            "namespace": "/n",
            "room": "",
            "publisher": "p",
            "sequence": number,
            "begun": float(number),
            "outcome": "ok",
            "ended": number + 0.1,
            "offset": f"{epoch}-{number}",
            **more,
        }
    )


def event(number: int, *, at: float | None = None, tenant: str = "a", epoch: str = "e", offset: Any = True) -> Seen:
    told = f"{epoch}-{number}" if offset is True else offset
    return Seen(number + 0.2 if at is None else at, "event", f"{tenant}{number}", tenant, told)


def history(*seen: Seen, client: str = "c", tenant: str = "a") -> History:
    return History(client, tenant, "/n", seen)


def wrong(publishes: list[Publish], *histories: History, forgot: tuple[float, ...] = ()) -> list[tuple[str, str, str]]:
    return [(v.kind, v.client, v.event) for v in check(publishes, lambda: histories, forgot)]


TEN = [published(number) for number in range(1, 11)]


def all_but(*numbers: int, **more: Any) -> list[Seen]:
    return [event(number, **more) for number in range(1, 11) if number not in numbers]


def test_nothing_is_wrong_where_nothing_is() -> None:
    assert wrong(TEN, history(FRESH, *all_but())) == []


@pytest.mark.parametrize("offset", [True, None])
def test_a_loss_is_found_with_and_without_numbers(offset: Any) -> None:
    publishes = TEN if offset else [replace(publish, offset=None) for publish in TEN]
    assert wrong(publishes, history(FRESH, *all_but(4, 5, offset=offset))) == [(LOST, "c", "a4"), (LOST, "c", "a5")]


def test_a_loss_at_the_end_and_of_all_is_found() -> None:
    assert wrong(TEN, history(FRESH, *all_but(10))) == [(LOST, "c", "a10")]
    assert len(wrong(TEN, history(FRESH))) == 10


def test_only_the_client_that_missed_it_is_named() -> None:
    assert wrong(TEN, history(FRESH, *all_but(), client="x"), history(FRESH, *all_but(4))) == [(LOST, "c", "a4")]


def test_who_came_later_is_entitled_from_then_on() -> None:
    late = Seen(4.5, "connect", "fresh")
    assert wrong(TEN, history(late, *all_but(1, 2, 3, 4))) == []
    assert wrong(TEN, history(late, *all_but(1, 2, 3, 4, 5))) == [(LOST, "c", "a5")]


def test_what_stands_behind_the_first_one_heard_is_due_even_if_it_began_before_the_connection() -> None:
    publishes = [replace(publish, begun=0.5) for publish in TEN]
    late = Seen(1.0, "connect", "fresh")
    assert wrong(publishes, history(late, *all_but(1, 2, 3))) == []
    assert wrong(publishes, history(late, *all_but(1, 2, 3, 6))) == [(LOST, "c", "a6")]


def test_what_was_missed_while_away_is_due_and_recovery_gives_it() -> None:
    before, after = all_but(*range(4, 11)), all_but(*range(1, 8))
    away = Seen(3.5, "lost", "transport close")
    missed = [event(number, at=7.0) for number in range(4, 7)] + [event(7, at=7.0)]
    assert wrong(TEN, history(FRESH, *before, away, *missed, Seen(7.5, "connect", "recovered"), *after)) == []
    back = Seen(7.5, "connect", "fresh")
    lost = wrong(TEN, history(FRESH, *before, away, back, *after))
    assert lost == [(LOST, "c", f"a{number}") for number in (4, 5, 6, 7)]


def test_resync_excuses_what_may_have_been_missed_up_to_there_and_nothing_else() -> None:
    before, after = all_but(*range(4, 11)), all_but(*range(1, 8))
    away, back = Seen(3.5, "lost", "transport close"), Seen(7.5, "connect", "fresh")
    told = Seen(7.6, "resync", "expired")
    assert wrong(TEN, history(FRESH, *before, away, back, told, *after)) == []
    assert wrong(TEN, history(FRESH, *before, away, back, told, *after[1:])) == [(LOST, "c", "a8")]


def test_what_a_resync_excused_is_counted() -> None:
    told = history(FRESH, *all_but(4, 5), Seen(6.3, "resync", "gap"), client="x")
    excused: list[Any] = []
    assert check(TEN, lambda: [replace(told, seen=sorted(told.seen))], excused=excused) == []
    assert [violation.event for violation in excused] == ["a4", "a5"]


def test_resync_long_after_the_gap_could_be_seen_excuses_nothing() -> None:
    seen = all_but(4)
    in_time = Seen(5.2 + GRACE - 0.01, "resync", "gap")
    too_late = Seen(5.2 + GRACE + 0.01, "resync", "gap")
    assert wrong(TEN, history(FRESH, *sorted([*seen, in_time], key=lambda one: one.at))) == []
    assert wrong(TEN, history(FRESH, *sorted([*seen, too_late], key=lambda one: one.at))) == [(LOST, "c", "a4")]
    before = Seen(3.9, "resync", "gap")
    assert wrong(TEN, history(FRESH, *sorted([*seen, before], key=lambda one: one.at))) == [(LOST, "c", "a4")]


def test_resync_of_one_client_excuses_no_other() -> None:
    told = history(FRESH, *all_but(*range(4, 11)), Seen(4.5, "resync", "gap"), *all_but(*range(1, 5)), client="x")
    assert wrong(TEN, told, history(FRESH, *all_but(4))) == [(LOST, "c", "a4")]


def test_a_room_is_due_from_the_answer_to_its_subscription_until_the_session_ends() -> None:
    publishes = [replace(publish, room="r") for publish in TEN]
    joined, back = Seen(2.5, "joined", "r"), Seen(6.5, "connect", "fresh")
    again = Seen(8.5, "joined", "r")
    away, told = Seen(4.5, "lost", "x"), Seen(6.6, "resync", "expired")

    def seen(*numbers: int) -> History:
        events = [event(number) for number in numbers]
        whole = [FRESH, joined, away, back, told, again, *events]
        return history(*sorted(whole, key=lambda one: one.at))

    assert wrong(publishes, seen(3, 4, 9, 10)) == []
    assert wrong(publishes, seen(4, 9, 10)) == [(LOST, "c", "a3")]
    assert wrong(publishes, seen(3, 4, 10)) == [(LOST, "c", "a9")]
    # 5 and 6 were due, and only the resync excuses them.
    silent = History("c", "a", "/n", [one for one in seen(3, 4, 9, 10).seen if one.kind != "resync"])
    assert wrong(publishes, silent) == [(LOST, "c", "a5"), (LOST, "c", "a6")]


def test_twice_is_found_in_one_session_and_over_a_recovery() -> None:
    assert wrong(TEN, history(FRESH, *all_but(), event(10, at=11.0))) == [(TWICE, "c", "a10")]
    away, back = Seen(11.0, "lost", "x"), Seen(12.0, "connect", "recovered")
    assert wrong(TEN, history(FRESH, *all_but(), away, event(10, at=11.5), back)) == [(TWICE, "c", "a10")]
    # Who was not recovered starts anew.
    fresh = Seen(12.0, "connect", "fresh")
    assert wrong(TEN, history(FRESH, *all_but(), away, fresh, event(10, at=12.5))) == []


def test_an_order_that_is_not_the_numbers_is_found() -> None:
    swapped = all_but()
    swapped[4:6] = [event(6, at=6.2), event(5, at=6.3)]
    assert wrong(TEN, history(FRESH, *swapped)) == [(DISORDERED, "c", "a5")]
    publishes = [replace(publish, offset=None) for publish in TEN]
    swapped = [one._replace(offset=None) for one in swapped]
    assert wrong(publishes, history(FRESH, *swapped)) == [(DISORDERED, "c", "a5")]


def test_epochs_follow_each_other_whatever_their_numbers() -> None:
    anew = [published(number, epoch="b", offset=f"b-{number - 5}") for number in range(6, 11)]
    seen = [event(number) for number in range(1, 6)]
    later = [event(number, offset=f"b-{number - 5}") for number in range(6, 11)]
    assert wrong([*TEN[:5], *anew], history(FRESH, *seen, *later)) == []
    found = wrong([*TEN[:5], *anew], history(FRESH, *seen[:4], later[0], seen[4], *later[1:]))
    assert found == [(DISORDERED, "c", "a5")]


def test_another_tenants_event_is_found_whoever_says_so() -> None:
    other = published(3, tenant="b")
    assert wrong([*TEN, other], history(FRESH, *all_but(), event(3, tenant="b"))) == [(LEAKED, "c", "b3")]
    disguised = event(3, tenant="b")._replace(tenant="a")
    assert wrong([*TEN, other], history(FRESH, *all_but(), disguised)) == [(LEAKED, "c", "b3")]


def test_an_event_of_nobody_or_of_a_failed_publish_is_found() -> None:
    assert wrong(TEN[:9], history(FRESH, *all_but())) == [(PHANTOM, "c", "a10")]
    failed = replace(TEN[9], outcome=FAILED, offset=None)
    assert wrong([*TEN[:9], failed], history(FRESH, *all_but())) == [(PHANTOM, "c", "a10")]
    assert wrong([*TEN[:9], failed], history(FRESH, *all_but(10))) == []


def test_an_event_before_connect_is_found_but_for_recoveries() -> None:
    assert wrong(TEN[:1], history(event(1, at=0.0), FRESH)) == [(EARLY, "c", "a1")]


def test_what_a_cut_replay_left_in_a_client_comes_with_the_next_connect_where_redis_forgot_its_session() -> None:
    back = [Seen(0.0, "connect", "fresh"), Seen(2.0, "lost"), event(1, at=5.0), Seen(5.1, "connect", "fresh")]
    told = [*back, Seen(5.2, "resync", "expired")]
    assert wrong(TEN[:1], history(*told), forgot=(3.0,)) == []
    assert wrong(TEN[:1], history(*told), forgot=(1.0,)) == [(EARLY, "c", "a1")]
    assert wrong(TEN[:1], history(*told)) == [(EARLY, "c", "a1")]
    away = Seen(1.0, "lost", "x")
    assert wrong(TEN[:1], history(FRESH, away, event(1), RECOVERED)) == []


def test_an_unknown_publish_may_have_happened_for_all_or_for_nobody() -> None:
    publishes = [*TEN[:4], replace(TEN[4], outcome=UNKNOWN, offset=None, ended=9.0), *TEN[5:]]
    assert wrong(publishes, history(FRESH, *all_but(5)), history(FRESH, *all_but(5), client="x")) == []
    assert wrong(publishes, history(FRESH, *all_but()), history(FRESH, *all_but(), client="x")) == []
    found = wrong(publishes, history(FRESH, *all_but()), history(FRESH, *all_but(5), client="x"))
    assert found == [(LOST, "x", "a5")]
    assert wrong(publishes, history(FRESH, *all_but(), event(5, at=11.0))) == [(TWICE, "c", "a5")]


def test_of_a_batch_in_doubt_all_happened_or_nothing() -> None:
    doubt = {"outcome": UNKNOWN, "offset": None, "ended": 9.0, "batch": "b"}
    publishes = [replace(p, **doubt) if p.sequence in (4, 5) else p for p in TEN]
    assert wrong(publishes, history(FRESH, *all_but())) == []
    assert wrong(publishes, history(FRESH, *all_but(4, 5))) == []
    assert wrong(publishes, history(FRESH, *all_but(5))) == [(LOST, "c", "a5")]


def test_a_repeat_that_redis_forgot_may_come_twice_with_another_number() -> None:
    publishes = [*TEN[:9], replace(TEN[9], begun=9.5, ended=12.0, attempts=2, offset="f-1")]
    seen = [*all_but(10), event(10, at=10.0), Seen(11.5, "resync", "epoch"), event(10, at=11.9, offset="f-1")]
    assert wrong(publishes, history(FRESH, *seen), forgot=(11.0,)) == []
    assert [kind for kind, _, _ in wrong(publishes, history(FRESH, *seen))] == [MISNUMBERED, TWICE]
    same = [*seen[:-1], event(10, at=11.9)]
    assert wrong(publishes, history(FRESH, *same), forgot=(11.0,)) == [(TWICE, "c", "a10")]


def test_numbers_that_contradict_each_other_or_time_are_found() -> None:
    assert wrong(TEN, history(FRESH, *all_but(10), event(10, offset="e-11"))) == [(MISNUMBERED, "c", "a10")]
    doubled = [*TEN[:9], replace(TEN[9], offset="e-9", begun=9.0)]
    assert (MISNUMBERED, "-", "a10") in wrong(doubled)
    backwards = [*TEN[:8], replace(TEN[8], offset="e-10"), replace(TEN[9], offset="e-9")]
    assert wrong(backwards) == [(MISNUMBERED, "-", "a10")]


def test_a_client_that_is_refused_or_stays_away_is_found() -> None:
    assert wrong([], history(FRESH, Seen(1.0, "refused", "forbidden"))) == [(STRANDED, "c", "forbidden")]
    assert wrong([], history(FRESH, Seen(1.0, "lost", "x"))) == [(STRANDED, "c", "-")]
    assert wrong([], history()) == [(STRANDED, "c", "-")]


def test_a_connection_that_was_not_recovered_is_found_where_recovery_was_asked_for_and_possible() -> None:
    away, back = Seen(1.0, "lost", "x"), Seen(2.0, "connect", "fresh")
    told = history(FRESH, away, back, Seen(2.1, "resync", "expired"))
    assert [v.kind for v in check([], lambda: [told], recovers=True)] == [ANEW]
    assert check([], lambda: [told], recovers=False) == []
    # Redis forgot the session; but one from before, or from after, is no excuse.
    assert check([], lambda: [told], (1.5,), recovers=True) == []
    again = history(FRESH, away, back, Seen(3.0, "lost", "x"), Seen(4.0, "connect", "fresh"))
    assert [v.at for v in check([], lambda: [again], (1.5,), recovers=True)] == [4.0]
    # Nor was its session saved, where Redis or its node died right behind its CONNECT; later, it was.
    late = history(FRESH._replace(at=0.5), away, back)
    assert check([], lambda: [late], broke=(0.6,), recovers=True) == []
    for at in (0.9, 1.5):
        assert [v.kind for v in check([], lambda: [late], broke=(at,), recovers=True)] == [ANEW]
    recovered = history(FRESH, away, back._replace(value="recovered"))
    assert check([], lambda: [recovered], recovers=True) == []
