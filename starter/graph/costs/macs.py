"""Count the multiply-accumulates (MACs) of a graph: the number that the score uses.

Formulas: formulas.py. Shapes and what depends on the image: analysis.py.
"""

from starter.contract.costs import CostReport, NodeCost
from starter.contract.errors import Code, ParticipantError, Problem, problem
from starter.graph.analysis import Step, Trace
from starter.graph.formulas import Cost, CostClass
from starter.graph.operators import hint


def count_macs(trace: Trace) -> CostReport:
    """Add up the cost of every operator that depends on the image.

    Raises:
        ParticipantError: a call for which the operator's formula does not hold.
    """
    nodes: list[NodeCost] = []
    total, by_ptflops = Cost(), 0
    problems: list[Problem] = []
    for step in trace.steps:
        try:
            cost = step.rule.cost(step.call)
        except ValueError as error:
            where = f"{step.node.op} at {step.node.place}"
            problems.append(problem(Code.NO_COST_RULE, where=where, got=str(error), hint=hint(step.node.op)))
            continue
        total += cost
        by_ptflops += _by_ptflops(step, cost)
        nodes.append(
            NodeCost(
                name=step.node.name,
                op=step.node.op,
                module=step.node.module,
                source=step.node.source,
                shape=tuple(step.call.outputs[0].shape),
                **cost._asdict(),
            )
        )
    if problems:
        raise ParticipantError(problems)
    return CostReport(**total._asdict(), nodes=tuple(nodes), ptflops_macs=by_ptflops)


def _by_ptflops(step: Step, cost: Cost) -> int:
    """Count a call as ptflops does, whose counts scored the original competition.

    It counts convolutions and matrix products with their biases, 2 for each element of a norm, and the
    input elements of each pool. Everything else is free: explicit sums of products cost nothing.
    Source: ptflops 0.7, pytorch_ops.py, without its hooks on activations.
    """
    if step.rule.kind is CostClass.CONTRACTION:
        biased = step.call.arguments.get("bias") is not None or "addmm" in step.node.op
        return cost.contraction + (step.call.size if biased else 0)
    if "_norm" in step.node.op and "vector_norm" not in step.node.op:
        return 2 * step.call.size
    return step.call.input_size if "_pool" in step.node.op else 0
