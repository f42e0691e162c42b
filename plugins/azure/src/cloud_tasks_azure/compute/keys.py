"""A public key whose other half nobody has: Azure makes no Linux machine without a key or a password."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

__all__ = ["throwaway_key"]


def throwaway_key() -> str:
    """A new RSA key in OpenSSH's form; its private half is forgotten at once."""
    public = rsa.generate_private_key(public_exponent=65537, key_size=3072).public_key()
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
