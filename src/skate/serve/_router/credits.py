"""One replica's credits, as a router sees them. Decisions only: no I/O, no clock."""

from __future__ import annotations

from skate.serve._router.lines import Key


class Credits:
    """The credits of one replica.

    Args:
        slots: of the replica.
    """

    __slots__ = ("slots", "_held", "is_idle", "received", "sent", "number", "listening", "asked", "owed",
                 "retired")  # fmt: skip

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._held = 0
        #: No credit came or went since this was set.
        self.is_idle = False
        #: All credits that ever came.
        self.received = 0
        #: Requests that were sent and have not ended.
        self.sent: set[Key] = set()
        #: Of the latest report.
        self.number = 0
        #: The latest report is not answered yet.
        self.listening = False
        #: How many credits the latest report asked for; below 0: one that nobody else wants.
        self.asked = 0
        #: How many credits are to be given back.
        self.owed = 0
        #: It is no longer in the table: nothing more is sent there.
        self.retired = False

    @property
    def held(self) -> int:
        """Unused credits here."""
        return self._held

    @held.setter
    def held(self, count: int) -> None:
        self._held, self.is_idle = count, False

    @property
    def is_free(self) -> bool:
        """Whether a request can be sent now."""
        return self.held > self.owed and not self.retired

    @property
    def is_believed(self) -> bool:
        """Whether the lender believes that requests wait for its credits."""
        return self.asked > 0 and self.listening and not self.owed

    def is_to_report(self, wanted: int) -> bool:
        """Tell whether the lender should know more than it does: it is asked for credits, or can ask for
        some.

        Args:
            wanted: how many credits requests wait for; below 0: one that nobody else wants.
        """
        if not self.listening:
            return bool(wanted or self._held or self.sent)
        if wanted < 0:
            return self.asked == 0
        return wanted > 0 and (self.asked <= 0 or (self.asked < self.slots and wanted >= 2 * self.asked))

    @property
    def room(self) -> int:
        """How many requests from here it can run at a time, as far as that is known."""
        return self._held + len(self.sent) if self.received else self.slots

    @property
    def is_greedy(self) -> bool:
        """Whether more than one credit is here, or would come, though no request waits."""
        return not self.retired and (self.held > 1 or self.is_believed)
