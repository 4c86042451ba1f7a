"""The six classes of waste and the kinds of objects in each.

Kinds of different classes share outlines and colours on purpose: see objects.py.
"""

from collections.abc import Callable

from starter.data.synthetic import matte, shiny
from starter.data.synthetic.objects import Frame, Patch

Kind = Callable[[Frame], Patch]
"""Draws one object into its frame."""

KINDS: dict[str, tuple[Kind, ...]] = {
    "Metal": (shiny.can, shiny.can_top, shiny.foil, shiny.foil, shiny.crown_cap),
    "Paper": (matte.sheet, matte.paper_ball, matte.newspaper, matte.paper_cup, matte.carton_box),
    "Paperpack": (matte.gable_carton, matte.juice_box, matte.flat_pack),
    "Plastic": (shiny.bottle, shiny.plastic_cup, shiny.plastic_lid, shiny.container, shiny.cutlery),
    "Plasticbag": (shiny.carrier_bag, shiny.crisp_packet, shiny.wrapper, shiny.film),
    "Styrofoam": (matte.foam_block, matte.foam_tray, matte.foam_cup, matte.foam_piece),
}
"""The kinds of each class; a kind listed twice is drawn twice as often."""
