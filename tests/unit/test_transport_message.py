"""What is sent: made once, in the form that each transport needs, and counted as what it takes while it waits."""

import pytest

from mintflow_realtime.transport.engine_io.message import (
    LATEST_ONLY,
    NOOP,
    PING,
    PROBE_ANSWER,
    Closing,
    Message,
    Pong,
    Slow,
)
from mintflow_realtime.transport.websocket import frames


@pytest.mark.parametrize("text", ["2", "4hello", "4" + "ü" * 100, "4" + "x" * 70_000])
def test_a_text_is_framed_once_and_can_be_had_again(text: str) -> None:
    message = Message(text)
    assert message.packets == (text,)
    assert message.frame == frames.frame(frames.TEXT, text.encode())
    assert message.frame is message.frame and message.packets is message.packets
    assert message.text == text and message.size == len(message.frame)
    late = Message(text)
    assert late.frame and late.text == text and late.packets == (text,)


def test_attachments_follow_their_text_in_frames_of_their_own() -> None:
    message = Message('451-["e"]', (b"\x00\xff", b""))
    assert message.frame == b"".join(
        (
            frames.frame(frames.TEXT, b'451-["e"]'),
            frames.frame(frames.BINARY, b"\x00\xff"),
            frames.frame(frames.BINARY, b""),
        )
    )
    assert message.packets == ('451-["e"]', "bAP8=", "b")
    assert message.text == '451-["e"]', "which a merge may ask for"


def test_attachments_alone_have_no_text() -> None:
    message = Message("", (b"ab",))
    assert message.frame == frames.frame(frames.BINARY, b"ab") and message.packets == ("bYWI=",)
    assert message.text == ""


def test_what_waits_is_counted_with_all_that_it_holds() -> None:
    assert Message("4" * 1000).size == 1004
    # The attachments stay beside their frames, for the other transport.
    assert Message("4", (b"x" * 1000,)).size == 3 + 1004 + 1000


def test_a_message_ends_a_slow_connection_unless_it_says_otherwise() -> None:
    assert Message("4").slow == Slow("close", "")
    assert Message("4", slow=Slow("merge", "k")).slow == ("merge", "k")


def test_control_packets() -> None:
    assert (PING.packets, PROBE_ANSWER.packets, NOOP.packets) == (("2",), ("3probe",), ("6",))
    assert PING.frame == b"\x81\x012"


def test_of_several_pongs_that_wait_the_last_is_enough() -> None:
    """RFC 6455, section 5.5.3."""
    one, two = Pong(b"one"), Pong(b"")
    assert one.slow == two.slow and one.slow.policy == LATEST_ONLY
    assert (one.frame, two.frame) == (b"\x8a\x03one", b"\x8a\x00")
    assert one.packets == () == Closing(1001).packets


def test_a_close_frame_can_wait_behind_messages() -> None:
    assert Closing(1001).frame == b"\x88\x02\x03\xe9" and Closing(1001).size == 4
