#!/bin/bash
exec python3 program.py
