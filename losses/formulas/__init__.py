"""Formulas and checks that several rooms of losses share. None of them is a method."""
