"""Code that both backends share: errors, batches, and single steps for bulk ledgers."""
