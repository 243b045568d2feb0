"""The recipes that the project ships, by name: a user's own are not tested here."""

SHIPPED = (
    "demo",
    "demo_clean",
    "demo_no_cue",
    "mmmo",
    "mosei",
    "mosei_mmsa",
    "mosei_mmsa_unaligned",
    "mosi",
    "mosi_mmsa",
    "mosi_mmsa_unaligned",
    "mosi_real",
    "mosi_real_text",
    "mustard",
    "mustard_dependent",
    "mustard_independent",
    "my_arrays",
    "my_videos",
    "sims_mmsa",
    "urfunny",
)
