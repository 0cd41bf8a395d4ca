"""What the record of a notice means for sending it. Pure; the store is ``alerting.outbox_store``.

A notice is UNKNOWN from just before a try until its outcome is written. So a process that was killed in between finds
it UNKNOWN and says it again, marked as a possible repeat: one repeat for each kill, never none, never an unmarked one.
"""

from __future__ import annotations

from enum import Enum

from alerting.ports import Delivered, Outcome, Refused, State


class Verdict(Enum):
    """Whether a lane sends a notice, and why not."""

    SEND = "SEND"
    SEND_AS_REPEAT = "SEND_AS_REPEAT"
    SENT_BEFORE = "SENT_BEFORE"
    REFUSED_BEFORE = "REFUSED_BEFORE"


_VERDICTS = {
    None: Verdict.SEND,
    State.RETRYING: Verdict.SEND,  # every try so far was answered, with a no for now
    State.UNKNOWN: Verdict.SEND_AS_REPEAT,
    State.SENT: Verdict.SENT_BEFORE,
    State.REFUSED: Verdict.REFUSED_BEFORE,
}


def verdict_of(recorded: State | None) -> Verdict:
    """Decide on a notice from what is recorded of it, None when nothing is (or nothing can be read)."""
    return _VERDICTS[recorded]


def state_after(outcome: Outcome, *, was_doubtful: bool) -> State:
    """Return what to record after a try; doubt about an earlier try stays until one succeeds."""
    if isinstance(outcome, Delivered):
        return State.SENT
    if isinstance(outcome, Refused):
        return State.REFUSED
    return State.UNKNOWN if was_doubtful or outcome.may_have_arrived else State.RETRYING
