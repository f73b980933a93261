"""Operations on WIDTH lanes side by side: element i of every vector belongs to lane i."""
