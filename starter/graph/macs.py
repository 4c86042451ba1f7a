"""Count the multiply-accumulates (MACs) of a graph: the number that the score uses.

Formulas: formulas.py. Shapes and what depends on the image: analysis.py.
"""

from starter.contract.errors import Code, ParticipantError, Problem, problem
from starter.contract.results import CostReport, NodeCost
from starter.graph.analysis import Trace
from starter.graph.formulas import Cost
from starter.graph.operators import hint


def count_macs(trace: Trace) -> CostReport:
    """Add up the cost of every operator that depends on the image.

    Raises:
        ParticipantError: a call for which the operator's formula does not hold.
    """
    nodes: list[NodeCost] = []
    total = Cost()
    problems: list[Problem] = []
    for step in trace.steps:
        try:
            cost = step.rule.cost(step.call)
        except ValueError as error:
            where = f"{step.node.op} at {step.node.place}"
            problems.append(problem(Code.NO_COST_RULE, where=where, got=str(error), hint=hint(step.node.op)))
            continue
        total += cost
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
    return CostReport(**total._asdict(), nodes=tuple(nodes))
