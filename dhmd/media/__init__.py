"""From videos and transcripts to computational sequences.

`transcripts` needs no other package; the other modules need the extra `media` and ffmpeg, and
import them where they use them.
"""
