"""From a loss expression to the terms of a run: names, published settings, companions, the plan."""
