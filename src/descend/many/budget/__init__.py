"""The preset best: rounds of different networks until a time is spent, and the ensemble of the best of all rounds.

The first round trains the members of the preset good. Each further one trains random variations of the recipe, or small
changes of a network of the ensemble so far (:mod:`descend.recipe.search_space`). All are trained on the same rows, from
initial weights and in an order of their own. After each round an ensemble is selected greedily from the networks of all rounds
(:func:`descend.nn.greedy.greedy`).

=======================  ===================================================================================
:mod:`._train_best`      :func:`train_best`: the rounds, the selection, the result
:mod:`.deadline`         the observer that stops a round when the time is spent
:mod:`.round`            one round: its networks, trained and stored in one file
=======================  ===================================================================================

A round is a pure function of the recipe, the seed, its number and the rounds before it. The time decides only how many there
are, and at which step the last one is stopped. The folder ``rounds`` of a run has a file for each complete round, and a folder
with checkpoints for the round that was stopped, which a resumed run continues.
"""

from descend.many.budget._train_best import SPENT, train_best

__all__ = ["SPENT", "train_best"]
