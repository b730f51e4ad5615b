"""The three pieces, composed for Bandstand and given to the public domain (CC0)."""

from __future__ import annotations

from samples.notation import DrumPart, Part, Score, strum

# A funk groove in A dorian: i7 and IV9 twice, then bVI, bVII and an altered V home.
BAND_GROOVE = Score(
    title="Back Door Groove",
    tempo=112,
    beats_per_bar=4,
    cells_per_beat=4,
    bars=7,
    seed=11,
    swing=0.53,
    timing_ms=5.0,
    tail_seconds=0.3,
    swell=(0, 0, 0, 3, 4, 6, 6),
    parts=(
        DrumPart(
            velocity=92,
            volume=112,
            rows={
                "crash": """X... .... .... .... | .... .... .... .... | .... .... .... ....
                    | .... .... .... .... | X... .... .... .... | .... .... .... ....
                    | X... .... .... ....""",
                "hat": """..x. X.x. X.xx X.x. | X.x. X.x. X.x. X... | X.x. X.x. X.xx X.x.
                    | X.x. X.x. X.x. X... | ..x. X.x. X.xx X.x. | X.x. X.x. .... ....
                    | .... .... .... ....""",
                "open_hat": """.... .... .... .... | .... .... .... ..x. | .... .... .... ....
                    | .... .... .... .... | .... .... .... .... | .... .... .... ....
                    | .... .... .... ....""",
                "snare": """.... X..g .g.. X..g | .... X..g .g.. X... | .... X..g .g.. X..g
                    | .... X..g .g.. X.xX | .... X..g .g.. X..g | .... X..g XgxX ....
                    | .... .... .... ....""",
                "kick": """X..x .... X.x. ...x | X..x ..x. X... .... | X..x .... X.x. ...x
                    | X..x ..x. X... .... | X..x .... X.x. ...x | X..x .... X... X.x.
                    | X... .... .... ....""",
                "high_tom": """.... .... .... .... | .... .... .... .... | .... .... .... ....
                    | .... .... .... .x.. | .... .... .... .... | .... .... .... Xx..
                    | .... .... .... ....""",
                "floor_tom": """.... .... .... .... | .... .... .... .... | .... .... .... ....
                    | .... .... .... .... | .... .... .... .... | .... .... .... ..XX
                    | .... .... .... ....""",
            },
        ),
        Part(
            name="finger bass",
            program=33,
            velocity=98,
            volume=98,
            legato=0.85,
            bars="""
              a1> - . a1   . . g1 .   a1 - . c2   . d2 e2 .
            | d2> - . d2   . . c2 .   d2 - . f#1  . g1 g#1 .
            | a1> - . a1   . . g1 .   a1 - . e2   . d2 c2 .
            | d2> - . d2   . a1 c2 .  d2 - . .    f#1 . e1 .
            | f1> - . f1   . c2 f1 .  g1> - . g1  . d2 g1 .
            | e1> - . e1   . g#1 b1 . e1 - - .    e1 - g#1 -
            | a1> - - -    - - - -    - - - -     - - - .""",
        ),
        Part(
            name="clean guitar",
            program=27,
            velocity=78,
            volume=96,
            pan=34,
            legato=0.8,
            strum_ms=7.0,
            chords={
                "Am7": "g3 c4 e4 a4",
                "D9": "f#3 c4 e4 a4",
                "Fmaj9": "a3 c4 e4 g4",
                "G6": "b3 d4 e4 g4",
                "E7#9": "g#3 d4 g4 b4",
                "E7": "g#3 d4 e4 b4",
                "Am9": "c4 e4 g4 b4",
            },
            bars="|".join(
                [
                    strum("Am7 | D9 | Am7 | D9 | Fmaj9 G6", "..X.x-.u..X.u-.."),
                    strum("E7#9 E7#9 E7#9 E7", "..X.x-.uX--.X---"),
                    strum("Am9", "X--------------."),
                ]
            ),
        ),
        Part(
            name="drawbar organ",
            program=16,
            velocity=66,
            volume=84,
            pan=92,
            legato=0.98,
            bars="""
              e4+g4 - - -      - - - -   - - - -        - - - -
            | e4+f#4 - - -     - - - -   - - - -        - - - -
            | e4+g4 - - -      - - - -   - - - -        - - - -
            | e4+f#4 - - -     - - - -   - - - -        - - . .
            | c4+e4 - - -      - - - -   d4+g4 - - -    - - - -
            | g#3+d4 - - -     - - - -   g#3+d4 - - -   - - - -
            | c4+e4 - - -      - - - -   - - - -        - - - .""",
        ),
        Part(
            name="lead guitar",
            program=29,
            velocity=84,
            volume=92,
            pan=70,
            bars="""
              . . . .     e4 - g4 a4>   - - g4 -   e4 - - .
            | . . d4 e4   f#4> - e4 -   d4 - c4 -  a3 - - .
            | . . . .     e4 - g4 a4>   - - c5 -   b4 - a4 .
            | . . c5 b4   a4 - f#4 -    e4 - f#4 - a4> - - .
            | c5> - - a4  - c5 d5 -     d5> - - b4 - d5 e5 -
            | e5> - - g5  - e5 - d5     b4 - - -   b4 - g#4 -
            | a4> - - -   - - - -       - - - -    - - - .""",
        ),
    ),
)

# A reel in D: two strains of eight bars, the second one higher, with cuts and bowed triplets.
FIDDLE_REEL = Score(
    title="The Rack on the Landing",
    tempo=212,
    beats_per_bar=4,
    cells_per_beat=2,
    bars=16,
    seed=23,
    swing=0.54,
    timing_ms=5.0,
    tail_seconds=0.9,
    swell=(0, 0, 2, 0, 0, 4, 3, 0, 4, 6, 4, 4, 6, 8, 6, 0),
    parts=(
        Part(
            name="fiddle",
            bite=8000,
            program=110,
            velocity=96,
            volume=127,
            pan=58,
            legato=0.92,
            bars="""
              d5> - {g4}f#4 a4   d5 e5 f#5> a5
            | g5 f#5 e5> c#5     a4 - c#5> e5
            | {g5}f#5> - d5 b4   f#5> g5 f#5 d5
            | b4 d5 g5> f#5      e5 c#5 a4> g4
            | f#4> - a4 d5       f#5> e5 f#5 a5
            | {c#6}b5> - g5 d5   b4> d5 g5 b5
            | g5> b5 g5 e5       c#5> e5 g5 e5
            | f#5> d5 e5 c#5     d5 - - a5
            | {c#6}b5> - f#5 b5  a5> f#5 d5 f#5
            | g5> a5 b5 g5       d5> g5 b4 d5
            | {g5}f#5> - d5 f#5  a5> f#5 d5 f#5
            | e5,e5 e5> c#5 e5   a4> c#5 e5 g5
            | f#5> b5 a5 f#5     d5> f#5 b4 d5
            | {a5}g5> - b4 d5    g5,g5 g5 b5> g5
            | a5> f#5 d5 f#5     e5> g5 e5 c#5
            | d5> - {g4}f#4 a4   d4+d5> - - -""",
        ),
        Part(
            name="steel guitar",
            program=25,
            velocity=74,
            volume=80,
            pan=36,
            legato=0.98,
            strum_ms=9.0,
            chords={
                "D": "d3 a3 d4 f#4",
                "A": "a2 e3 a3 c#4 e4",
                "Bm": "b2 f#3 b3 d4 f#4",
                "G": "g2 b2 d3 g3 b3 g4",
                "Em": "e2 b2 e3 g3 b3 e4",
            },
            bars="|".join(
                [
                    strum("D | A | Bm | G A | D | G | Em A | D A D D", "x-X-x-Xu"),
                    strum("Bm | G | D | A | Bm | G | D A", "x-Xux-Xu"),
                    strum("D", "x-X-X---"),
                ]
            ),
        ),
        Part(
            name="upright bass",
            program=32,
            velocity=92,
            volume=90,
            pan=70,
            legato=0.9,
            bars="""
              d2> - - .   a1 - - .
            | a1> - - .   e2 - - .
            | b1> - - .   f#2 - - .
            | g1> - - .   a1 - b1 c#2
            | d2> - - .   a1 - - .
            | g1> - - .   d2 - - .
            | e2> - - .   a1 - c#2 -
            | d2> - a1 -  d2 - a1 -
            | b1> - - .   f#2 - - .
            | g1> - - .   d2 - - .
            | d2> - - .   a1 - - .
            | a1> - - .   e2 - c#2 -
            | b1> - - .   f#2 - - .
            | g1> - - .   d2 - - .
            | d2> - - .   a1 - c#2 -
            | d2> - a1 -  d2> - - -""",
        ),
    ),
)

# A minuet for string quartet: four bars that end on the dominant, four that come home.
STRING_MINUET = Score(
    title="Minuet for Four",
    tempo=122,
    beats_per_bar=3,
    cells_per_beat=2,
    bars=8,
    seed=37,
    timing_ms=9.0,
    tail_seconds=0.7,
    swell=(0, 3, 6, 0, 2, 10, 6, -4),
    parts=(
        Part(
            name="first violin",
            bite=7000,
            program=40,
            velocity=88,
            volume=112,
            pan=36,
            bars="""
              g5> - - d5 b4 d5 | a5> - - f#5 d5 f#5 | b5> - a5 - g5 -      | g5> - f#5 - - .
            | g5> - - d5 b4 d5 | c6> - - a5 e5 a5   | b5> - a5 {b5}g5 a5 f#5 | g5> - - - - -""",
        ),
        Part(
            name="second violin",
            bite=6000,
            program=40,
            velocity=70,
            volume=118,
            pan=54,
            bars="""
              . . b4 - g4 - | . . a4 - a4 - | d5 - d5 - b4 - | d5 - d5 - c5 -
            | . . b4 - g4 - | . . c5 - a4 - | d5 - - - c5 -  | b4 - - - - -""",
        ),
        Part(
            name="viola",
            bite=6000,
            program=41,
            velocity=70,
            volume=127,
            pan=76,
            bars="""
              . . d4 - d4 - | . . c4 - c4 - | b3 - d4 - g4 - | a4 - a4 - a4 -
            | . . d4 - d4 - | . . e4 - e4 - | g4 - - - d4 -  | d4 - - - - -""",
        ),
        Part(
            name="cello",
            bite=5000,
            program=42,
            velocity=80,
            volume=100,
            pan=92,
            bars="""
              g2> - - . b2 -  | f#2> - - . f#2 - | g2> - f#2 - e2 - | d2> - d3 - d2 -
            | g2> - - . b2 -  | c3> - - . c3 -   | d3> - - - d2 -   | g2> - - - - -""",
        ),
    ),
)
