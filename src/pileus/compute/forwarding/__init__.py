"""Old operations of compute that only forward to images, networking and block storage, with names of their own.

Clients of old versions use them; they end with microversion 2.35 (2.38, 2.43) and do nothing that the other
services' own APIs would not do for the same caller.
"""
