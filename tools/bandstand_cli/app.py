"""The commands, their options and their help; their code is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from bandstand import __version__
from bandstand.models.precision import WeightPrecision
from bandstand_cli.addresses import server_address
from bandstand_cli.failures import report_failure
from bandstand_cli.operation_commands import Server, add_operation_commands
from bandstand_cli.train_command import train_app


class _Commands(TyperGroup):
    """Prints errors in one line; with `--debug` as a traceback."""

    def invoke(self, ctx: Any) -> Any:
        with report_failure(debug=ctx.params["debug"]):
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(no_args_is_help=True, help="List, install and change models.")
app.add_typer(models_app, name="models")
app.add_typer(train_app, name="train")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bandstand {__version__}")
        raise typer.Exit


@app.callback()
def bandstand(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks (BANDSTAND_LOG_LEVEL=DEBUG does too).")
    ] = False,
) -> None:
    """Serves music models: genre, instruments and audio features of recordings.

    [cyan]bandstand classify song.mp3[/cyan]      the genre of a recording, without a server

    [cyan]bandstand serve[/cyan]                  a server at http://127.0.0.1:3000

    Settings are environment variables, BANDSTAND_…
    """


@app.command()
def serve(
    *,
    host: Annotated[
        str | None, typer.Option(show_default="127.0.0.1", help="Address to listen on.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, show_default="3000", help="Port.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, show_default="by cores", help="Processes that decode audio."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=0, show_default="by cores", help="Compute threads of one model."),
    ] = None,
    log_format: Annotated[
        Literal["json", "text"] | None,
        typer.Option(show_default="json", help="JSON, or text for people."),
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            show_default="with --log-format text: a sample of Bandstand",
            help="Classify this recording once the server is ready.",
        ),
    ] = None,
) -> None:
    """Serve the models over HTTP until Ctrl-C or SIGTERM.

    [cyan]bandstand serve[/cyan]                               its API is described at /docs

    [cyan]bandstand serve --host 0.0.0.0 --port 8080[/cyan]    for other machines too

    [cyan]bandstand serve --log-format text[/cyan]             with logs for people

    Every option is also a setting (BANDSTAND_PORT=8080); the option has precedence.
    """
    from bandstand_cli.server import run_server

    given = {
        "host": host,
        "port": port,
        "preprocess_workers": workers,
        "threads_per_runner": threads,
        "log_format": log_format,
    }
    run_server({name: value for name, value in given.items() if value is not None}, sample)


Port = Annotated[int, typer.Option(min=1, max=65535)]


@app.command()
def triton(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    http_port: Port = 8000,
    grpc_port: Port = 8001,
    metrics_port: Port = 8002,
    repository: Annotated[
        Path | None,
        typer.Option(file_okay=False, show_default="BANDSTAND_REPOSITORY", help="Whose models."),
    ] = None,
    model_control: Annotated[
        Literal["explicit", "none", "poll"],
        typer.Option(help="Models change by clients' requests, never, or with the repository."),
    ] = "explicit",
    prepare_only: Annotated[
        bool, typer.Option("--prepare-only", help="Install the server and write its configs.")
    ] = False,
    docker: Annotated[
        bool, typer.Option("--docker", help="Print the commands for NVIDIA's image instead.")
    ] = False,
    control_key: Annotated[
        bool,
        typer.Option("--control-key", help="Print the key for Triton of BANDSTAND_ADMIN_KEY."),
    ] = False,
) -> None:
    """Serve the models with NVIDIA Triton: KServe v2 over gRPC and HTTP, until Ctrl-C.

    [cyan]bandstand triton[/cyan]                    a server without a container
    [cyan]bandstand triton --docker[/cyan]           commands for NVIDIA's image, with GPUs

    The first start installs the server into a separate environment (about 200 MB).
    """
    from bandstand_cli import triton as command

    if control_key:
        command.show_control_key()
        return
    options = command.options_for(
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        repository=repository,
        model_control=model_control,
    )
    if docker:
        command.show_docker(options)
    elif prepare_only:
        command.prepare_only(options)
    else:
        command.serve(options)


add_operation_commands(app)


@app.command()
def diagnose(
    card: Annotated[
        str, typer.Argument(metavar="CARD", help="A model's name, or the path of a card (.yaml).")
    ],
    *,
    features: Annotated[
        Path,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE.npy",
            help="Features from the model's training.",
        ),
    ],
    audio: Annotated[
        Path,
        typer.Option(
            exists=True, dir_okay=False, metavar="FILE", help="The recording of these features."
        ),
    ],
    plot: Annotated[
        Path | None,
        typer.Option(dir_okay=False, metavar="OUT.png", help="Draw both and their difference."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check whether a card's front end produces the features that its model was trained on.

    [cyan]bandstand diagnose tags_msd --features song.npy --audio song.mp3[/cyan]

    [cyan]bandstand diagnose card.yaml --features song.npy --audio song.mp3 --plot song.png[/cyan]

    If it does not, the command tries the usual settings and prints the lines of the card to change.

    Exit code: 0 if it does, 1 if it does not or an error occurred, 2 if the command was wrong.
    """
    from bandstand_cli.diagnose import run

    run(card, features, audio, plot, as_json=json)


@app.command()
def bench(
    scenario: Annotated[
        Literal["single-stream", "server", "offline", "sweep", "all"],
        typer.Argument(help="The kind of load."),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECORDING…",
            show_default="the samples of Bandstand",
            help="Audio files, or directories of them.",
        ),
    ] = None,
    *,
    server: Annotated[
        str,
        typer.Option(
            metavar="URL",
            callback=server_address,
            help="Bandstand (http, https) or Triton (grpc, grpcs); the key is read from "
            "BANDSTAND_API_KEY.",
        ),
    ] = "http://127.0.0.1:3000",
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The model's name (see `bandstand models list`)."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.05, help="server: requests a second; with --find, the first to try."),
    ] = None,
    find: Annotated[
        bool, typer.Option("--find", help="server: search the highest rate within the bound.")
    ] = False,
    p99_ms: Annotated[
        float, typer.Option("--p99-ms", min=0.1, help="server: highest p99 latency.")
    ] = 500.0,
    levels: Annotated[
        str, typer.Option(metavar="N,N,…", help="sweep: requests in flight.")
    ] = "1,2,4,8,16,32",
    in_flight: Annotated[int, typer.Option(min=1, help="offline: requests in flight.")] = 16,
    seconds: Annotated[float, typer.Option(min=0.1, help="Shortest duration of a run.")] = 20.0,
    requests: Annotated[
        int, typer.Option(min=1, help="Smallest number of requests in a run.")
    ] = 100,
    seed: Annotated[
        int, typer.Option(help="Seed of the order of recordings and of the arrivals.")
    ] = 0,
    late_share: Annotated[
        float,
        typer.Option(min=0, max=1, help="Allowed share of requests that are sent late."),
    ] = 0.05,
    allow_cache: Annotated[
        bool, typer.Option("--allow-cache", help="Allow answers from the server's caches.")
    ] = False,
    json: Annotated[
        Path | None, typer.Option(dir_okay=False, metavar="FILE", help="Write all figures as JSON.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(dir_okay=False, metavar="FILE", help="Write a page with charts.")
    ] = None,
) -> None:
    """Test a running server under load, with the scenarios of MLPerf inference.

    [cyan]bandstand bench single-stream[/cyan]                one request at a time: p90

    [cyan]bandstand bench server --rate 5 --p99-ms 800[/cyan] random arrivals, bounded p99

    [cyan]bandstand bench server --find ~/Music[/cyan]        the highest rate within the bound

    [cyan]bandstand bench offline --in-flight 32[/cyan]       seconds of audio a second

    [cyan]bandstand bench sweep --levels 1,4,16[/cyan]        latency over throughput

    [cyan]bandstand bench all --html page.html[/cyan]         all scenarios, as a page

    [cyan]bandstand bench sweep --server grpc://127.0.0.1:8001[/cyan]

    Start the server with BANDSTAND_FEATURE_CACHE_ENTRIES=0, or its cache is measured, and with
    BANDSTAND_CLIENT_SHARE=1, or one client gets half of its places.
    Every answer is compared with that of the same model in process, in f32.

    Exit code: 0; 1 if a bound or 99 % accuracy is missed or a request failed; 2 if the command was
    wrong.
    """
    from bandstand.pipelines.genre import DEFAULT_MODEL
    from bandstand_cli import bench
    from bandstand_cli.keys import api_key
    from bandstand_loadtest.load_test import LoadTestOptions
    from bandstand_loadtest.runs import Bounds
    from bandstand_loadtest.scenarios import Plan

    options = LoadTestOptions(
        scenario=scenario,
        address=server,
        plan=Plan(seconds, requests, seed, Bounds(p99_ms, late_share, allow_cache)),
        model=model or DEFAULT_MODEL,
        api_key=api_key(),
        rate=rate,
        find=find or (scenario == "all" and rate is None),
        levels=bench.read_levels(levels),
        in_flight=in_flight,
    )
    bench.run(inputs or [], options, json=json, html=html)


@models_app.command("list")
def models_list(
    server: Server = None, json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """List every model, installed or not, with the lowest of its measured accuracies.

    [cyan]bandstand models list[/cyan]

    [cyan]bandstand models list --server http://127.0.0.1:3000[/cyan]    the models of a server
    """
    from bandstand_cli import models

    models.show_list(server, as_json=json)


@models_app.command("show")
def models_show(
    name: Annotated[str, typer.Argument(help="The model's name (see `bandstand models list`).")],
    server: Server = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show one model: its description, source, quality, and the proof of its export.

    [cyan]bandstand models show genre_features[/cyan]
    """
    from bandstand_cli import models

    models.show_one(name, server, as_json=json)


OneModel = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="The model's name (see `bandstand models list`)."),
]
AllModels = Annotated[bool, typer.Option("--all", help="All models that have a card.")]
AllowUnverified = Annotated[
    bool,
    typer.Option("--allow-unverified", help="Accept a checkpoint without a known sha256."),
]


@models_app.command("pull")
def models_pull(
    name: OneModel = None,
    *,
    everything: AllModels = False,
    allow_unverified: AllowUnverified = False,
) -> None:
    """Download a model's checkpoint, export it, prove the export, and install it.

    [cyan]bandstand models pull genre_mfcc_cnn[/cyan]

    [cyan]bandstand models pull --all[/cyan]

    An interrupted download continues where it stopped. Models that are installed are not changed.

    Exit code: 0; 1 if a model failed (it is not installed); 2 if the command was wrong.
    """
    from bandstand_cli import install

    install.pull(name, everything=everything, allow_unverified=allow_unverified)


@models_app.command("export")
def models_export(
    name: OneModel = None,
    *,
    everything: AllModels = False,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|HUB_ID",
            help="A checkpoint; default: the card's, if it is on this machine; -: its address is a "
            "line of standard input, where no other user of the machine reads it.",
        ),
    ] = None,
    precision: Annotated[WeightPrecision, typer.Option(help="Precision of the weights.")] = "fp32",
    allow_unverified: AllowUnverified = False,
) -> None:
    """Export a local checkpoint, prove the export, and install it as a new version.

    [cyan]bandstand models export --all[/cyan]    all checkpoints in the cache or the data folder

    [cyan]bandstand models export genre_mfcc_cnn --checkpoint genre_classifier.keras[/cyan]

    [cyan]bandstand models export genre_features --precision int8[/cyan]

    [cyan]bandstand models export genre_mfcc_cnn --checkpoint me/mine --allow-unverified[/cyan]

    Exit code: 0; 1 if a model failed (it is not installed); 2 if the command was wrong.
    """
    from bandstand_cli import install

    options = install.ExportOptions(checkpoint, precision, allow_unverified)
    install.export(name, options, everything=everything)


@models_app.command("remove")
def models_remove(
    name: Annotated[str, typer.Argument(help="The model's name (see `bandstand models list`).")],
    *,
    version: Annotated[
        int | None,
        typer.Option(min=1, show_default="all versions", help="Remove only this version."),
    ] = None,
) -> None:
    """Remove a model from this installation.

    [cyan]bandstand models remove genre_mfcc_cnn[/cyan]

    [cyan]bandstand models remove genre_mfcc_cnn --version 1[/cyan]
    """
    from bandstand_cli import install

    install.remove(name, version)


Serving = Annotated[
    str,
    typer.Option(
        "--server",
        metavar="URL",
        callback=server_address,
        help="Bandstand (http, https; with its administrator's key in BANDSTAND_API_KEY), or a "
        "Triton server of this repository (grpc, grpcs).",
    ),
]
_OWN_SERVER = "http://127.0.0.1:3000"
Served = Annotated[
    str, typer.Argument(metavar="NAME", help="The model's name (see `bandstand models list`).")
]


@models_app.command("load")
def models_load(
    name: Served,
    *,
    version: Annotated[
        int | None, typer.Option(min=1, show_default="the newest", help="This version.")
    ] = None,
    server: Serving = _OWN_SERVER,
) -> None:
    """Load a model, or another version of it, in a running server; no request is lost.

    [cyan]bandstand models load genre_features[/cyan]                the newest version

    [cyan]bandstand models load genre_features --version 1[/cyan]    that one, after restarts too

    [cyan]bandstand models load genre_features --server grpc://127.0.0.1:8001[/cyan]
    """
    from bandstand_cli import control

    control.load(server, name, version)


@models_app.command("unload")
def models_unload(name: Served, *, server: Serving = _OWN_SERVER) -> None:
    """Unload a model from a running server, after its requests in flight are finished.

    [cyan]bandstand models unload genre_mfcc_cnn[/cyan]
    """
    from bandstand_cli import control

    control.unload(server, name)


@models_app.command("rollback")
def models_rollback(name: Served, *, server: Serving = _OWN_SERVER) -> None:
    """Load the version before the served one in a running server.

    [cyan]bandstand models rollback genre_features[/cyan]
    """
    from bandstand_cli import control

    control.roll_back(server, name)
