"""Real processes that are killed while they settle, and a judge who reads afterwards what each of them had said."""
