"""
The safety nets that a control takes out, to show that the checker finds what they hold off.

A net is a few words of a script. They are replaced while the script is loaded, in the processes of a scenario alone.
"""

from __future__ import annotations

from gopher_node.store import scripts

NETS: dict[str, tuple[str, str, str]] = {
    "fence": (
        "settle",
        "if job[1] ~= 'processing' or job[2] ~= nonce or job[3] ~= attempt then",
        "if not job[1] then",
    ),
    "claim-memory": (
        "claim",
        "if holder[2] == claim_id or lease and told ~= '' then return tell_again(told) end",
        "",
    ),
}
"""What is taken out: of which script, which words, and what stands there then."""


def take_out(net: str) -> None:
    """From now on, in this process. Raises LookupError if the script no longer has these words."""
    script, words, instead = NETS[net]
    text = scripts._text

    def changed(name: str) -> str:
        found = text(name)
        if name != script:
            return found
        if found.count(words) != 1:
            raise LookupError(f"{script}.lua does not have these words once: {words}")
        return found.replace(words, instead)

    scripts._text = changed
    scripts.source.cache_clear()
