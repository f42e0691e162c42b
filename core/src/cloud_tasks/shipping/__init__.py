"""What a job ships to its instances: code, wheels, locked requirements, and the program that makes an environment."""

from cloud_tasks.shipping.boot_program import BOOT, START_FAILED, DownloadedPiece, boot_program, boot_text

__all__ = ["BOOT", "START_FAILED", "DownloadedPiece", "boot_program", "boot_text"]
