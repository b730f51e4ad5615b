"""Examples that `--help` shows, by operation, in rich's markup."""

EXAMPLES = {
    "classify": """\
[cyan]bandstand classify song.mp3[/cyan]                      a chart of its genres

[cyan]bandstand classify ~/Music --csv genres.csv[/cyan]      a folder of recordings

[cyan]bandstand classify ~/Music --json | jq .primary_genre[/cyan]

[cyan]bandstand classify song.mp3 --server http://127.0.0.1:3000[/cyan]""",
    "detect_instruments": """\
[cyan]bandstand instruments song.mp3[/cyan]                    a chart of its instruments

[cyan]bandstand instruments ~/Music --csv instruments.csv[/cyan]

[cyan]bandstand instruments song.mp3 --json | jq .primary[/cyan]

It needs a model that is not embedded: [cyan]bandstand models pull tags_jamendo[/cyan]""",
    "analyze_features": """\
[cyan]bandstand features song.mp3[/cyan]                       the most useful ones

[cyan]bandstand features ~/Music --csv features.csv[/cyan]     all features, one in each column

[cyan]bandstand features song.mp3 --json | jq .tempo_bpm[/cyan]""",
}
