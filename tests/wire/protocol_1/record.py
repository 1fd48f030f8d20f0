"""Writes down what protocol 1 is: each of its messages, and each document that it signs, as its own code made them.

It was run once, in a checkout of the last commit that spoke protocol 1 and nothing newer, and is kept to show how:

    git worktree add --detach /tmp/protocol_1 b352910
    cd /tmp/protocol_1
    PYTHONPATH=.:agent:coordinator python …/tests/wire/protocol_1/record.py messages > …/messages.txt
    PYTHONPATH=.:agent:coordinator python …/tests/wire/protocol_1/record.py documents > …/documents.txt

Run with newer code it would write down another protocol: what lies beside it is never made anew.
"""

import importlib
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import zmq
from nacl.signing import SigningKey
from zmq.utils import z85

ISSUED = 1_800_000_000.0


def of(module: str) -> Any:
    """A module of the code that is written down, whose names need not be those of today's."""
    return importlib.import_module(f"discogrid.{module}")


def example(kind: Any, name: str, numbers: Iterator[int], *, full: bool) -> Any:
    """A value of a type: every field with a value of its own, or (not `full`) optional ones absent."""
    types = msgspec.inspect
    match kind:
        case types.StrType():
            return f"{name} {next(numbers)}"
        case types.IntType():
            return next(numbers)
        case types.FloatType():
            return next(numbers) + 0.5
        case types.BoolType():
            return full
        case types.NoneType():
            return None
        case types.EnumType(cls):
            return list(cls)[-1 if full else 0]
        case types.UnionType(parts):
            of_value = next(part for part in parts if not isinstance(part, types.NoneType))
            return example(of_value, name, numbers, full=full) if full else None
        case types.VarTupleType(item):
            return tuple(example(item, name, numbers, full=full) for _ in range(2 if full else 0))
        case types.DictType(key, value):
            one = (example(key, name, numbers, full=full), example(value, name, numbers, full=full))
            return dict([one]) if full else {}
        case types.StructType(cls) | types.DataclassType(cls):
            fields = [field for field in kind.fields if full or field.required]
            values = {field.name: example(field.type, field.name, numbers, full=full) for field in fields}
            return cls(**values)
        case _:
            raise TypeError(f"no example of {kind}")


def messages() -> None:
    """One line a message: its tag, `full` or `bare`, the header frame."""
    for kind in of("messages").AnyMessage.__args__:
        about: Any = msgspec.inspect.type_info(kind)
        for fill in ("full", "bare"):
            message = example(about, "", itertools.count(1), full=fill == "full")
            print(about.tag, fill, of("wire").encode(message).hex())


def identity(word: bytes) -> Any:
    """A node whose secret signing key everybody knows."""
    signing = SigningKey(word.ljust(32, b"."))
    curve_secret = z85.encode(word.ljust(32, b"-"))
    curve_public = zmq.curve_public(curve_secret)
    node = of("keys").node_id(bytes(signing.verify_key))
    return of("keys").Identity(node, signing, curve_public, curve_secret)


def documents() -> None:
    """One line a document: what it is, and its bytes."""
    bundle, trust, types, wire, merkle = map(of, ("bundle", "trust", "types", "wire", "merkle"))
    role = types.Role
    owner, coordinator, agent, submitter = map(identity, (b"owner", b"coordinator", b"agent", b"submitter"))
    members = tuple(
        trust.Member(node.id, one.value, node.public, node.curve_public, (one,))
        for node, one in ((coordinator, role.COORDINATOR), (agent, role.AGENT), (submitter, role.SUBMITTER))
    )
    roster = trust.RosterBody(1, owner.id, ISSUED, ISSUED + 86400, members)
    digest = bundle.digest_of_payload
    files = [types.FileRef(name, digest(name.encode()), len(name)) for name in ("a.txt", "b.txt", "c.txt")]
    leaves = [bundle.encode_leaf(bundle.Leaf(index, file)) for index, file in enumerate(files)]
    tree = merkle.Tree([merkle.leaf_hash(leaf) for leaf in leaves])
    manifest = bundle.Manifest(
        grid=owner.id,
        audience=coordinator.id,
        nonce=b"n" * 16,
        issued=ISSUED,
        expires=ISSUED + 3600,
        submitter=submitter.id,
        name="job",
        script=types.FileRef("script.py", digest(b"script"), 6),
        constants=(types.FileRef("model.dat", digest(b"model"), 5),),
        mounts=(types.Mount("/home/codelab", types.FileRef("tree.zip", digest(b"tree"), 4)),),
        arguments=("--fast", "2"),
        environment={"KEY": "value"},
        limits=types.Limits(seconds=60.0, memory_bytes=1 << 30),
        requirements=types.Requirements(cpus=2, needs=("dlib", "ffmpeg")),
        retries=2,
        priority=5,
        tasks=len(leaves),
        root=tree.root,
    )
    job = bundle.seal_job(manifest, submitter)
    body = bundle.ResultBody(
        job=job.digest,
        index=1,
        number=1,
        lease=7,
        agent=agent.id,
        sandbox=types.SandboxLevel.STRICT,
        outcome=types.Outcome.SUCCEEDED,
        exit=0,
        started=ISSUED + 1,
        ended=ISSUED + 3,
        seconds=1.5,
        archive=digest(b"archive"),
        archive_bytes=7,
        outputs=(types.FileRef("out.txt", digest(b"out"), 3),),
    )
    for name, content in (
        ("owner", owner.public),
        ("roster", owner.seal(trust.ROSTER_TYPE, msgspec.msgpack.encode(roster))),
        ("job", job.envelope),
        ("leaves", wire.pack_parts(leaves)),
        ("proof", wire.pack_parts(tree.prove(1, 2))),
        ("result", bundle.seal_result(body, agent)),
    ):
        print(name, content.hex())


if __name__ == "__main__":
    {"messages": messages, "documents": documents}[sys.argv[1]]()
