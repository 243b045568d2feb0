"""Text that understands the sentence: an encoder's vectors in place of the recipe's word vectors.

The encoder runs once over the words of every segment, frozen, when the corpus is aligned; what it
says of each word goes into the aligned cache, and every later stage reads it like any vector.
"""
