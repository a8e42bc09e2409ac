"""Fine-tuning on clean data: the accelerate loop, adapters, the regularisers Cl and Tr, Pt, resume."""
