"""Attached machines: phones over adb and boards over ssh, which take files, run a program and give back."""
