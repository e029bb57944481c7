"""Early: shapes only."""
import argparse, time
import jax
from experiments.benchmark import markdown
from experiments.benchmark.contenders import CONTENDERS, missing
from experiments.benchmark.problem import Problem
from experiments.benchmark.race import Plan, race
from experiments.benchmark.results import Result

SHAPES = ((32, 100, 64, 128), (32, 50, 256, 256), (64, 25, 512, 512), (1, 200, 64, 128), (128, 50, 28, 64))
parse = argparse.ArgumentParser()
parse.add_argument("--shapes", nargs="+", type=lambda t: tuple(map(int, t.split(","))), default=SHAPES)
parse.add_argument("--contenders", type=lambda t: t.split(","), default=[c.name for c in CONTENDERS])
parse.add_argument("--rounds", type=int, default=31)
parse.add_argument("--dtype", default="float32")
parse.add_argument("--net", default="lstm")
args = parse.parse_args()
chosen = []
for c in CONTENDERS:
    if c.name in args.contenders or c.name == "jlstm":
        line = missing(c)
        print(line, flush=True) if line else chosen.append(c)
plan = Plan(tuple(args.shapes), tuple(chosen), args.rounds, args.dtype, print)
rows = []
for shape in args.shapes:
    start = time.time()
    rows += race(plan, Problem(*shape, args.net, args.dtype))
    print(shape, f"{time.time() - start:.0f} s", flush=True)
result = Result("shapes", "Shapes", "", "jlstm", rows)
print(markdown.report([result], {"title": f"jax {jax.__version__}"}))
