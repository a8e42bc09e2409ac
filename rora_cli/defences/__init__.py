"""Ways to purify, one file each: a workbench in, a cleansed model out. ``defences.recipes`` lists them."""
