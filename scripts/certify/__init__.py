"""How the certified vectors are made. Each module holds one stage; certify_vectors.py runs them."""
