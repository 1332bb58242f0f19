"""Networks: names, normalisation, taps, weights and run folders. Import from the modules; nothing is loaded
here.
"""
