"""Verbs that read with a trained NLA: explain, reconstruct, score, steer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gloss.cli import scale
from gloss.cli.console import next_command, print_json, print_rich
from gloss.errors import ConfigError

NLA = Annotated[
    str | None,
    typer.Option("--nla", help="Folder or hub id of the NLA; the last quickstart if not given."),
]
AV = Annotated[
    str | None, typer.Option("--av", help="Folder or hub id of the AV, where it stands elsewhere.")
]
AR = Annotated[
    str | None, typer.Option("--ar", help="Folder or hub id of the AR, where it stands elsewhere.")
]
REVISION = Annotated[
    str | None, typer.Option("--revision", help="Branch, tag or commit of AV and AR on the hub.")
]
DTYPE = Annotated[
    str, typer.Option("--dtype", help="float32, bfloat16 or float16, for every part.")
]
DEVICE = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, …, for every part.")
]
TARGET = Annotated[
    str | None,
    typer.Option("--target", help="Target model, where it does not stand beside the NLA."),
]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ENGINE = Annotated[
    str,
    typer.Option(
        "--engine",
        help=(
            "What runs the AV: local, sglang+http://host:port, vllm+http://…, gloss+http://…, or"
            " http://… to find out."
        ),
    ),
]
SEED = Annotated[int, typer.Option("--seed", help="Seed of sampling.")]


def register(app: typer.Typer) -> None:
    """Adds the reading verbs to the root command."""
    for command in (explain, reconstruct, score, steer):
        app.command()(command)


def explain(
    text: Annotated[str, typer.Argument(help="The text to explain; - reads standard input.")] = "-",
    nla: NLA = None,
    target: TARGET = None,
    av: AV = None,
    ar: AR = None,
    revision: REVISION = None,
    dtype: DTYPE = "float32",
    device: DEVICE = "auto",
    positions: Annotated[
        str | None, typer.Option(help="Tokens to explain: -1 (the default), all, or 3,7-9.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Explanations per token.")] = 1,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, help="0 is greedy; by default greedy for one sample, 1 for several."),
    ] = None,
    engine: ENGINE = "local",
    seed: SEED = 0,
    activations: scale.ACTIVATIONS = None,
    chat: scale.CHAT = None,
    text_file: scale.TEXT_FILE = None,
    out: scale.OUT = None,
    jsonl: scale.JSONL = False,
    tokens: scale.TOKENS = None,
    max_activations: scale.MAX_ACTIVATIONS = None,
    pool: scale.POOL = None,
    minus: scale.MINUS = None,
    minus_text: scale.MINUS_TEXT = None,
    minus_position: scale.MINUS_POSITION = None,
    best_of: scale.BEST_OF = 1,
    prompt: scale.PROMPT = None,
    batch_size: scale.BATCH_SIZE = 64,
    limit: scale.LIMIT = None,
    as_json: JSON = False,
) -> None:
    """Explain what a model holds in mind at tokens of a text or a transcript, or in a file of
    activations.
    """
    request = scale.Request(
        activations=activations,
        chat=chat,
        text_file=text_file,
        out=out,
        jsonl=jsonl,
        tokens=tokens,
        max_activations=max_activations,
        pool=pool,
        minus=minus,
        minus_text=minus_text,
        minus_position=minus_position,
        best_of=best_of,
        prompt=prompt,
        batch_size=batch_size,
        limit=limit,
    )
    sampling = {"samples": samples, "temperature": temperature, "seed": seed}
    read = None if request.has_input and text == "-" else _text(text)
    opened = _open(
        nla,
        target=target,
        av=av,
        ar=ar,
        revision=revision,
        dtype=dtype,
        device=device,
        engine=engine,
    )
    if request.is_plain:
        _explain_plain(opened, read or "", positions, as_json=as_json, **sampling)
    else:
        scale.explain(opened, request, read, positions, as_json=as_json, **sampling)


def _explain_plain(
    opened: Any, text: str, positions: str | None, *, as_json: bool, **sampling: Any
) -> None:
    """One text, shown at once."""
    found = opened.explain(text, positions=positions or "-1", **sampling)
    _tell_speed(opened.engine)
    if as_json:
        print_json(found.to_dicts())
    else:
        print_rich(found.table())


def reconstruct(
    text: Annotated[str, typer.Argument(help="An explanation; - reads standard input.")],
    nla: NLA = None,
    av: AV = None,
    ar: AR = None,
    revision: REVISION = None,
    dtype: DTYPE = "float32",
    device: DEVICE = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Write the vector as safetensors (key `activation`).")
    ] = None,
) -> None:
    """Rebuild the activation that an explanation describes, and print it as JSON."""
    read = _text(text)
    vector = _open(nla, av=av, ar=ar, revision=revision, dtype=dtype, device=device).reconstruct(
        [read]
    )[0]
    if out is not None:
        from safetensors.torch import save_file

        save_file({"activation": vector}, out)
        print(out)
    else:
        print_json(
            {"d_model": len(vector), "activation": [round(value, 6) for value in vector.tolist()]}
        )


def score(
    text: Annotated[str, typer.Option(help="An explanation.")],
    activations: Annotated[Path, typer.Option(help="Parquet file of activations.")],
    nla: NLA = None,
    av: AV = None,
    ar: AR = None,
    revision: REVISION = None,
    dtype: DTYPE = "float32",
    device: DEVICE = "auto",
    limit: Annotated[int, typer.Option(min=1, help="Rows to score.")] = 100,
    as_json: JSON = False,
) -> None:
    """Score how well one explanation rebuilds each activation of a file."""
    import torch
    from rich.table import Table

    from gloss.data import read_activations, vectors_as_array
    from gloss.nla.results import printable

    table = read_activations(activations).slice(0, limit)
    reader = _open(nla, av=av, ar=ar, revision=revision, dtype=dtype, device=device)
    vectors = torch.from_numpy(vectors_as_array(table, where=activations).copy())
    scores = reader.score([_text(text)] * len(vectors), vectors)
    rows = [
        {
            "row": i,
            "doc_id": doc,
            "direction_mse": s.direction_mse,
            "cosine": s.cosine,
            "fve": s.fve,
        }
        for i, (doc, s) in enumerate(zip(table["doc_id"].to_pylist(), scores, strict=True))
    ]
    if as_json:
        print_json(rows)
        return
    shown = Table("row", "document", "cosine", "FVE", header_style="bold")
    for row in rows:
        shown.add_row(
            str(row["row"]),
            printable(str(row["doc_id"])),
            f"{row['cosine']:.3f}",
            _number(row["fve"]),
        )
    print_rich(shown)


def steer(
    text: Annotated[str, typer.Argument(help="The text to steer from; - reads standard input.")],
    edit: Annotated[str, typer.Option(help='Words of the explanation to replace: "old=>new".')],
    position: Annotated[int, typer.Option(help="Token whose activation is changed.")] = -1,
    alpha: Annotated[
        list[float] | None,
        typer.Option(help="Strength, as a fraction of the activation's norm; repeatable."),
    ] = None,
    explanation: Annotated[
        str | None, typer.Option(help="Edit this explanation instead of the AV's.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of the continuations.")] = 24,
    nla: NLA = None,
    target: TARGET = None,
    av: AV = None,
    ar: AR = None,
    revision: REVISION = None,
    dtype: DTYPE = "float32",
    device: DEVICE = "auto",
    seed: SEED = 0,
    as_json: JSON = False,
) -> None:
    """Edit an explanation and see how the target goes on: h + α‖h‖Δ/‖Δ‖, Δ = AR(edited) −
    AR(original).
    """
    old, arrow, new = edit.partition("=>")
    if not arrow or not old:
        raise ConfigError("cannot read --edit", expected='"old=>new"', found=repr(edit))
    read = _text(text)
    result = _open(
        nla, target=target, av=av, ar=ar, revision=revision, dtype=dtype, device=device
    ).steer(
        read,
        positions=position,
        edit=(old, new),
        alphas=tuple(alpha or (0.5, 1.0, 2.0)),
        original=explanation,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    if as_json:
        print_json(result.to_dict())
        return
    print_rich(
        f"explanation: {result.original!r}", f"edited:      {result.edited!r}", result.table()
    )
    next_command("gloss steer --help")


def _open(nla: str | None, *, av: str | None, ar: str | None, **options: Any) -> Any:
    """The NLA that is named, by one name or by its halves; else the last quickstart's."""
    import gloss
    from gloss.pipeline.last_run import last_quickstart

    name = str(last_quickstart()) if nla is None and av is None and ar is None else nla
    return gloss.load(name, av=av, ar=ar, **options)


def _tell_speed(engine: Any) -> None:
    """Says on standard error how fast a server was."""
    from gloss.engines import RemoteEngine

    if isinstance(engine, RemoteEngine) and engine.last_speed is not None:
        print(f"{engine}: {engine.last_speed}", file=sys.stderr)


def _text(text: str) -> str:
    read = sys.stdin.read() if text == "-" else text
    if not read.strip():
        raise ConfigError(
            "the text is empty", expected="some text, as an argument or on standard input"
        )
    return read


def _number(value: Any) -> str:
    return "—" if value is None else f"{value:.3f}"
