"""Convert videos and transcripts to computational sequences.

`transcripts` needs no optional package; the other modules need the extra `media` and ffmpeg.
"""
