"""A compiled program seen from outside: its matmuls inside loops, its scans."""

import re

NAME = r'([\w.]+|"[^"]*")'  # of a function; a lambda's has quotes


def dots_in_loops(text: str) -> int:
    """Matmuls of the StableHLO's while loops, calls followed."""
    functions = dict(re.findall(rf"func\.func \w+ @{NAME}\(.*?\n(.*?)\n  }}", text, re.DOTALL))

    def count(body: str) -> int:
        called = sum(count(functions[name]) for name in re.findall(rf"call @{NAME}\(", body))
        return len(re.findall(r"dot_general", body)) + called

    total = 0
    for body in functions.values():
        for loop in body.split("stablehlo.while")[1:]:
            indent = re.search(r"\n( *)cond", loop)
            assert indent
            total += count(loop[: re.search(rf"\n{indent[1]}}}\n|\Z", loop[indent.end() :]).end() + indent.end()])
    return total


def scans(jaxpr):
    """All scans of a program, called functions followed."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "scan":
            yield eqn
        for inner in (getattr(param, "jaxpr", None) for param in eqn.params.values()):
            if inner is not None:
                yield from scans(inner)
