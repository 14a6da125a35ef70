"""`python -m oodml`, which `torchrun -m oodml` needs."""

from oodml.cli import main

if __name__ == "__main__":
    main()
