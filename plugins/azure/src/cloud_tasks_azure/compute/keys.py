"""SSH public key whose private key is discarded: Azure requires a key or a password for a Linux VM."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

__all__ = ["throwaway_key"]


def throwaway_key() -> str:
    """Return a new RSA public key in OpenSSH format; its private key is discarded."""
    public = rsa.generate_private_key(public_exponent=65537, key_size=3072).public_key()
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
