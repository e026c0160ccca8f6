"""What both databases share of their own: errors, pieces of many things, and single steps of many."""
