"""A small text notation for scores: one cell for each step of a grid, bars between `|`.

Cells of a part are separated by spaces:

    a4            a note (pitch and octave, middle C is c4; `#` and `b` alter it)
    d4+f#4        notes together
    Am7           a chord that the part names; it is strummed upwards in pitch
    Am7^          the same, strummed downwards in pitch (an up-stroke of the hand)
    c5,d5,e5      notes that share the cell evenly
    {g5}f#5       a grace note before the beat
    g4>           an accent
    -             the note of the cell before goes on
    .             silence

A drum part has one row for each instrument and one character for each cell: `X` accented, `x`
plain, `g` a ghost note, `.` nothing; blanks are free.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

SEMITONES = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
ALTERATIONS = {"": 0, "#": 1, "b": -1}
PITCH = re.compile(r"([a-g])([#b]?)(\d)")

DRUMS = {
    "kick": 36,
    "snare": 38,
    "floor_tom": 43,
    "low_tom": 45,
    "high_tom": 50,
    "hat": 42,
    "open_hat": 46,
    "crash": 49,
}
"""General MIDI percussion keys."""
DRUM_STEPS = {"X": 18, "x": 0, "g": -52}
"""What a drum row's character adds to the part's velocity."""
ACCENT = 16
GRACE_CELLS = 0.33
"""Length of a grace note, in cells; it ends where its main note starts."""


@dataclass(frozen=True, slots=True)
class Note:
    """One sounding note; times are in cells from the start of the score, before any swing."""

    start: float
    length: float
    pitch: int
    velocity: int
    strum: int = 0
    """Place in the strum: 0 sounds at once, every further string a little later."""


@dataclass(frozen=True, slots=True)
class Part:
    """One player of melody or harmony."""

    name: str
    program: int
    """General MIDI program, counted from 0."""
    bars: str
    velocity: int
    volume: int = 100
    pan: int = 64
    """0 is left, 127 is right."""
    legato: float = 0.95
    """Share of its written length that a note sounds."""
    strum_ms: float = 0.0
    """Time from one string to the next."""
    bite: int = 0
    """Sample frames of the soundfont's slow bow stroke that are left out, for a crisper start."""
    chords: dict[str, str] = field(default_factory=dict)
    """Voicings by chord name, from the lowest note to the highest."""

    def notes(self, cells_per_bar: int) -> list[Note]:
        """Read the bars.

        Raises:
            ValueError: a bar has the wrong number of cells, or a cell cannot be read.
        """
        cells = [cell for bar in _bars(self.bars, cells_per_bar) for cell in bar]
        found: list[Note] = []
        for index, cell in enumerate(cells):
            if cell in {"-", "."}:
                continue
            held = 1
            while index + held < len(cells) and cells[index + held] == "-":
                held += 1
            found.extend(self._read(cell, index, held))
        return found

    def _read(self, cell: str, start: int, held: int) -> list[Note]:
        velocity = self.velocity + (ACCENT if cell.endswith(">") else 0)
        cell = cell.removesuffix(">")
        found: list[Note] = []
        if cell.startswith("{"):
            grace, cell = cell[1:].split("}")
            found.append(Note(start - GRACE_CELLS, GRACE_CELLS, pitch(grace), velocity - 14))
        shares = cell.split(",")
        for place, share in enumerate(shares):
            at, length = start + place / len(shares), held / len(shares) * self.legato
            pitches = self._pitches(share)
            found.extend(
                Note(at, length, note, velocity, strum) for strum, note in enumerate(pitches)
            )
        return found

    def _pitches(self, text: str) -> list[int]:
        name = text.removesuffix("^")
        pitches = [pitch(note) for note in self.chords.get(name, name.replace("+", " ")).split()]
        return pitches[::-1] if text.endswith("^") else pitches


@dataclass(frozen=True, slots=True)
class DrumPart:
    """One drummer."""

    rows: dict[str, str]
    velocity: int
    volume: int = 100
    pan: int = 64
    name: str = "drums"
    program: int = 0
    strum_ms: float = 0.0
    bite: int = 0

    def notes(self, cells_per_bar: int) -> list[Note]:
        """Read the rows.

        Raises:
            ValueError: a bar has the wrong number of cells, or a row is of no known drum.
        """
        found: list[Note] = []
        for drum, row in self.rows.items():
            spaced = re.sub(r"([^\s|])", r"\1 ", row)
            steps = [step for bar in _bars(spaced, cells_per_bar) for step in bar]
            found.extend(
                Note(index, 1.0, DRUMS[drum], self.velocity + DRUM_STEPS[step])
                for index, step in enumerate(steps)
                if step != "."
            )
        return found


@dataclass(frozen=True, slots=True)
class Score:
    """A piece: its grid, its players, and how loosely they play."""

    title: str
    tempo: float
    """Quarter notes a minute."""
    beats_per_bar: int
    cells_per_beat: int
    bars: int
    parts: tuple[Part | DrumPart, ...]
    seed: int
    swing: float = 0.5
    """Share of a pair of cells that its first one takes; 0.5 is straight."""
    timing_ms: float = 6.0
    """Standard deviation of a player's timing."""
    tail_seconds: float = 1.2
    """How long the last chord may ring after the last bar."""
    swell: tuple[int, ...] = ()
    """What each bar adds to the velocity of all parts."""

    @property
    def cells_per_bar(self) -> int:
        """Steps of the grid in one bar."""
        return self.beats_per_bar * self.cells_per_beat

    @property
    def duration_seconds(self) -> float:
        """Length of the recording."""
        return self.bars * self.beats_per_bar * 60.0 / self.tempo + self.tail_seconds


def pitch(text: str) -> int:
    """Return the MIDI key of a pitch such as `f#4`.

    Raises:
        ValueError: the text is no pitch.
    """
    match = PITCH.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no pitch")
    letter, alteration, octave = match.groups()
    return SEMITONES[letter] + ALTERATIONS[alteration] + 12 * (int(octave) + 1)


def strum(chords: str, pattern: str) -> str:
    """Write out a strummed bar for each bar of chord names.

    Args:
        chords: bars between `|`, each with one or more names of equal length.
        pattern: one character a cell: `x` down, `X` down and accented, `u` up, `-` held, `.` off.

    Returns:
        Bars in the notation of `Part`.
    """
    marks = {"x": "", "X": ">", "u": "^"}
    bars = []
    for bar in chords.split("|"):
        names = bar.split()
        cells = [
            names[index * len(names) // len(pattern)] + marks[step] if step in marks else step
            for index, step in enumerate(pattern)
        ]
        bars.append(" ".join(cells))
    return "|".join(bars)


def _bars(text: str, cells_per_bar: int) -> list[list[str]]:
    bars = [bar.split() for bar in text.strip().split("|")]
    for number, bar in enumerate(bars, 1):
        if len(bar) != cells_per_bar:
            raise ValueError(f"bar {number} has {len(bar)} cells, not {cells_per_bar}: {bar}")
    return bars
