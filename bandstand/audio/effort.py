"""Ends the decoding of content that takes time of the processor and brings no sound."""

from __future__ import annotations

from time import thread_time

from bandstand.errors import UndecodableAudioError

AUDIO_SECONDS_PER_CPU_SECOND = 25.0
"""The least speed of decoding. The slowest of the accepted formats (AAC in eight channels) is
decoded 200 times as fast as it sounds on one core of a current server."""
# 5000 packets of MP3 or AAC are about two minutes; decoders need at most a few packets to start, or
# after damage.
_MOST_EMPTY_PACKETS = 5000


class Effort:
    """The time and the packets that one decoding may use.

    Packets can be made that decode to nothing: 200 KB of them keep a decoder busy for seconds,
    without ever reaching the limit of length.

    Args:
        cpu_seconds: time of this thread on the processor, for a recording of no length.
    """

    def __init__(self, cpu_seconds: float) -> None:
        self._until = thread_time() + cpu_seconds
        self._empty = 0

    def goes_on(self, samples: int, audio_seconds: float) -> bool:
        """Return whether to decode the next packet; False: too many in a row had no samples.

        Args:
            samples: that the last packet had.
            audio_seconds: decoded so far.

        Raises:
            UndecodableAudioError: the decoding is too slow for what it brings.
        """
        self._empty = 0 if samples else self._empty + 1
        if thread_time() > self._until + audio_seconds / AUDIO_SECONDS_PER_CPU_SECOND:
            raise UndecodableAudioError(
                f"decoding takes too long: {audio_seconds:.1f} s of audio were decoded so far"
            )
        return self._empty <= _MOST_EMPTY_PACKETS
