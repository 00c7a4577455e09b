"""English words that hold a sentence together and name nothing in a photo."""

from __future__ import annotations

_ENGLISH = """
a an the this that these those some any each every another other both all no not
and or but as at by for from in into of off on onto out over to toward towards up down under with without near next
through along across around behind between beside above below against about after before while during inside outside
is are was were be been being am has have had having do does doing did can could will would may might must
it its itself he him his himself she her hers herself they them their theirs themselves we us our i me my you your
who whom whose which what where when there here very too so than then just also 's 're 've 'll 'd 'm n't
"""
FUNCTION_WORDS = frozenset(_ENGLISH.split())
"""In lower case, as ``tokenize`` gives them."""
