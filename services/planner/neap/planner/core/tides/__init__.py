"""Pools of nodes that change sides with the tide: what is, what is foreseen, what is said."""
